//! Writes and the lives of a name: what a request was checked against is what it changes, or nothing.

mod creation;
mod deletes;
mod imports;
mod lives;
mod support;
