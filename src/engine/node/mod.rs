//! What is this instance among the others?
//!
//! [`identity`] is its name, [`duty`] what it may do at the moment, [`cluster`] its seat in the shared config, and
//! [`condition`] whether it is as it should be.

pub mod cluster;
pub mod condition;
pub mod duty;
pub mod identity;
