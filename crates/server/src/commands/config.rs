//! `alpes config`: every setting, its value and where it comes from. The page docs/config.md is made of the same table.

use std::path::Path;

use clap::CommandFactory as _;
use platform::Location;
use serde::Serialize;

use crate::cli::{Cli, Common};
use crate::output::{self, Table};

/// A setting: a flag with its environment variable and default.
#[derive(Serialize)]
pub(crate) struct Setting {
    command: String,
    flag: String,
    environment: String,
    default: String,
    value: String,
    source: &'static str,
    meaning: String,
}

/// Prints the settings as this process would see them.
pub(crate) fn run(common: &Common) -> anyhow::Result<()> {
    let settings = settings(|name| std::env::var(name).ok());
    if common.json {
        return output::json(&settings);
    }
    let mut table = Table::new(&["command", "flag", "environment", "value", "from"]);
    for setting in settings {
        table.row([setting.command, setting.flag, setting.environment, setting.value, setting.source.to_owned()]);
    }
    table.print();
    Ok(())
}

/// Every setting that can come from the environment, with `environment` to look values up.
pub(crate) fn settings(environment: impl Fn(&str) -> Option<String>) -> Vec<Setting> {
    let root = Cli::command();
    let commands = std::iter::once(&root).chain(root.get_subcommands().filter(|command| !command.is_hide_set()));
    let mut settings = Vec::new();
    for command in commands {
        for argument in command.get_arguments() {
            let Some(variable) = argument.get_env().and_then(|name| name.to_str()) else { continue };
            let default =
                argument.get_default_values().iter().filter_map(|value| value.to_str()).collect::<Vec<_>>().join(",");
            // What may hold a password or token is not shown; of the database, where it leads.
            let found = environment(variable).map(|value| match variable {
                "ALPES_DATABASE" => {
                    Location::parse(&value, Path::new(".")).map_or_else(|_| hidden(), |it| it.to_string())
                }
                _ if argument.is_hide_env_values_set() => hidden(),
                _ => value,
            });
            settings.push(Setting {
                command: command.get_name().to_owned(),
                flag: argument.get_long().map_or_else(String::new, |long| format!("--{long}")),
                environment: variable.to_owned(),
                source: if found.is_some() { "environment" } else { "default" },
                value: found.unwrap_or_else(|| default.clone()),
                default,
                meaning: argument.get_help().map(ToString::to_string).unwrap_or_default(),
            });
        }
    }
    settings
}

fn hidden() -> String {
    "(hidden)".to_owned()
}

/// docs/config.md.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "# Settings\n\nGenerated from the code: `cargo x docs`. A flag wins over its environment variable, that wins over the default.\n\n\
         | command | flag | environment | default | meaning |\n|---|---|---|---|---|\n",
    );
    for setting in settings(|_| None) {
        let Setting { command, flag, environment, default, meaning, .. } = setting;
        page += &format!("| `{command}` | `{flag}` | `{environment}` | `{default}` | {meaning} |\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_and_no_token_is_shown() {
        for database in ["postgres://me:secret@db.example/alpes", "oracle://me:secret@db.example"] {
            let settings = settings(|name| match name {
                "ALPES_DATABASE" => Some(database.to_owned()),
                "ALPES_PULSAR_TOKEN" => Some("secret".to_owned()),
                _ => None,
            });
            assert!(settings.iter().any(|setting| setting.environment == "ALPES_PULSAR_TOKEN"));
            assert!(settings.iter().all(|setting| !setting.value.contains("secret")), "{database}");
        }
    }
}
