//! `brainy config`: the settings in force, and whether a file is valid.

use crate::args::{ConfigCommand, InstanceArgs};
use crate::failure::{Failure, Result};
use crate::{instance, output};
use brainy::base::settings::{self, Effective, Source, keys, resolve_role};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Runs `brainy config`.
pub fn run(command: &ConfigCommand, json: bool) -> Result<()> {
    match command {
        ConfigCommand::Show(args) => show(args, json),
        ConfigCommand::Check { file } => check(file, json),
    }
}

fn show(args: &InstanceArgs, json: bool) -> Result<()> {
    let effective = instance::load(args.settings.config.as_deref(), args.flags())?;
    // That the role is missing is worth showing, and no reason to hide the rest.
    let role = resolve_role(&effective).map_err(Failure::from);
    if json {
        let settings: Map<String, Value> = effective
            .shown()
            .into_iter()
            .map(|(key, value, source)| {
                let source = source.to_string();
                (key.to_owned(), json!({"value": value, "source": source}))
            })
            .collect();
        let role = match &role {
            Ok((role, source)) => json!({"value": role, "source": source.to_string()}),
            Err(failure) => failure.to_json(),
        };
        let notices = notices(&effective);
        return output::json(
            &json!({"effectiveRole": role, "settings": settings, "notices": notices}),
        );
    }
    let mut table = output::table(&["setting", "value", "source"]);
    for (key, value, source) in effective.shown() {
        table.add_row([key.to_owned(), output::cell(&value), source.to_string()]);
    }
    output::print(&table)?;
    output::line("")?;
    notices(&effective).iter().try_for_each(|notice| output::line(notice))?;
    match role {
        Ok((role, source)) => output::line(&format!("effective role: {} ({source})", role.name())),
        Err(failure) => output::line(&format!("effective role: none: {}", failure.message)),
    }
}

/// What to know about names from elsewhere.
fn notices(effective: &Effective) -> Vec<String> {
    effective.notices().iter().map(ToString::to_string).collect()
}

fn check(file: &Path, json: bool) -> Result<()> {
    let effective = settings::load(Some(file), [], &[])?;
    let set = |key: &&&str| effective.source(key) != &Source::Default;
    let count = keys().iter().filter(set).count();
    if json {
        let notices = notices(&effective);
        return output::json(&json!({"valid": true, "settings": count, "notices": notices}));
    }
    notices(&effective).iter().try_for_each(|notice| output::line(notice))?;
    output::line(&format!("{} is valid: {count} settings", file.display()))
}
