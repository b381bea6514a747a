//! Who does what among the instances?
//!
//! [`lease`] keeps work that one is enough for to one instance at a time. Membership comes later.

pub mod lease;
