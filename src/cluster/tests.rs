//! Scenarios of one or a few members in one process.
