//! Everything that Brainy keeps, read by a decoder that follows `docs/format.md` and shares no code with the
//! crate: it shows whether the document is right and says all, and tells what is in a bucket without asking the engine.

mod codes;
mod damage;
mod decode;
mod engine;
mod filters;
mod folds;
mod golden;
mod make;
mod newer;
#[path = "../support/nobody.rs"]
mod nobody;
mod store;
mod stores;
