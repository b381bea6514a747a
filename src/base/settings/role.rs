//! What is this instance? The precedence of the role, exactly.
//!
//! `BRAINY_ROLE` > explicit (`--role`, or `role` in the file) > inferred from `read_only` or
//! `write_only` > hybrid on a standalone store (`file://`, a folder, `memory:`) > an error that
//! says how to set it. `BRAINY_ROLE` beats even the flag, unlike any other variable: one image
//! with a fixed command line serves every role, and the orchestrator decides. An alias of it
//! (`CLUSTER_NODE_ROLE`) does not.

use super::layers::ROLE_VARIABLE;
use super::{Effective, Role, Settings, Source};
use crate::base::{Code, Error, Result};
use std::fmt;

/// Why an instance has its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleSource {
    /// The variable `BRAINY_ROLE`.
    Environment,
    /// A flag or a file says so, or a variable by a name from elsewhere.
    Explicit(Source),
    /// `read_only` or `write_only` implies it.
    Inferred(&'static str, Source),
    /// Nothing says so, and the store belongs to one machine.
    Standalone,
}

impl fmt::Display for RoleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoleSource::Environment => f.write_str(ROLE_VARIABLE),
            RoleSource::Explicit(source) => source.fmt(f),
            RoleSource::Inferred(key, source) => write!(f, "inferred from {key} ({source})"),
            RoleSource::Standalone => f.write_str("standalone store"),
        }
    }
}

/// This instance's role and why it has it.
pub fn resolve_role(effective: &Effective) -> Result<(Role, RoleSource)> {
    let settings = &effective.settings;
    if let Some(role) = settings.role {
        let source = effective.source("role").clone();
        return Ok(match source {
            Source::Env(name) if name == ROLE_VARIABLE => (role, RoleSource::Environment),
            other => (role, RoleSource::Explicit(other)),
        });
    }
    let inferred = |key| RoleSource::Inferred(key, effective.source(key).clone());
    match (
        settings.read_only.unwrap_or(false),
        settings.write_only.unwrap_or(false),
    ) {
        (true, true) => Err(Error::new(
            Code::InvalidSettings,
            format!(
                "read_only ({}) and write_only ({}) are both true: leave one, or set role = \"hybrid\"",
                effective.source("read_only"),
                effective.source("write_only")
            ),
        )
        .with("key", "read_only")),
        (true, false) => Ok((Role::Reader, inferred("read_only"))),
        (false, true) => Ok((Role::Writer, inferred("write_only"))),
        (false, false) if is_standalone(settings) => Ok((Role::Hybrid, RoleSource::Standalone)),
        (false, false) => Err(Error::new(
            Code::InvalidSettings,
            "the role of this instance is not set: set BRAINY_ROLE, --role or role in the settings \
             file to writer, reader or hybrid",
        )
        .with("key", "role")),
    }
}

/// Whether the store belongs to one machine: a folder, `file://` or `memory:`.
fn is_standalone(settings: &Settings) -> bool {
    match settings.store.split_once("://") {
        Some((scheme, _)) => matches!(scheme.to_ascii_lowercase().as_str(), "file" | "memory"),
        None => true,
    }
}
