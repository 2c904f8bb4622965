//! The configuration file: each key is the default of the option of the same name.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Command, CommandFactory};
use drover_transport::amqp::MessagingConfig;
use toml::{Table, Value};

use crate::cli::Cli;

/// The command line with the defaults of the configuration file, which is found in the arguments
/// or in `$DROVER_CONFIG`.
pub fn command(arguments: &[OsString]) -> Result<Command> {
    let command = Cli::command();
    let Some(path) = file(arguments) else {
        return Ok(command);
    };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("failed to read configuration file {}", path.display()))?;
    let table: Table = text
        .parse()
        .with_context(|| format!("configuration file {} is malformed", path.display()))?;
    // `drover publish --config` takes the file of fedora-messaging too; the two have no key in common.
    if arguments.iter().any(|argument| argument == "publish")
        && table.keys().any(|key| MessagingConfig::is_key(key))
    {
        return Ok(of_messaging(command, path));
    }
    with_defaults(command, table)
        .with_context(|| format!("in configuration file {}", path.display()))
}

fn of_messaging(command: Command, path: PathBuf) -> Command {
    command.mut_subcommand("publish", |publish| {
        publish.mut_arg("conf", |conf| conf.default_value(path.into_os_string()))
    })
}

fn file(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument
            .to_str()
            .and_then(|text| text.strip_prefix("--config="))
        {
            return Some(path.into());
        }
    }
    std::env::var_os("DROVER_CONFIG").map(PathBuf::from)
}

fn with_defaults(mut command: Command, table: Table) -> Result<Command> {
    for (key, value) in table {
        if let Value::Table(options) = value {
            let Some(found) = command.find_subcommand(&key).cloned() else {
                let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
                bail!(
                    "table [{key}] is no command; commands are {}",
                    known.join(", ")
                );
            };
            let filled = with_defaults(found, options).with_context(|| format!("table [{key}]"))?;
            command = command.mut_subcommand(&key, |_| filled);
        } else {
            command = with_default(command, &key, &value)?;
        }
    }
    Ok(command)
}

fn with_default(command: Command, key: &str, value: &Value) -> Result<Command> {
    let names: Vec<String> = command
        .get_arguments()
        .filter_map(|a| a.get_long())
        .map(ToOwned::to_owned)
        .collect();
    let argument = command.get_arguments().find(|a| a.get_long() == Some(key));
    let Some(id) = argument.map(|argument| argument.get_id().clone()) else {
        bail!("key {key} is no option; options are {}", names.join(", "));
    };
    let values: Vec<String> = match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        other => vec![plain(other)],
    };
    Ok(command.mut_arg(id, |argument| {
        argument.default_values(values).required(false)
    }))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Datetime(time) => time.to_string(),
        // Neither is a single value: the option's own parser says what it would take.
        Value::Array(_) | Value::Table(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn parse(toml: &str, arguments: &[&str]) -> Result<Cli> {
        let command = with_defaults(Cli::command(), toml.parse()?)?;
        Ok(Cli::from_arg_matches(
            &command.try_get_matches_from(arguments)?,
        )?)
    }

    #[test]
    fn a_key_is_a_default_that_flags_override() {
        let toml = "log = \"debug\"\n[up]\nhubs = 4\nephemeral = true\nfile = [\"a\", \"b\"]\n";
        let cli = parse(toml, &["drover", "up", "--clusters", "7"]).unwrap();
        let crate::cli::Command::Up(up) = cli.command else {
            panic!("not up")
        };
        assert_eq!(
            (up.hubs, up.clusters, up.ephemeral, up.file.len()),
            (4, 7, true, 2)
        );
        assert_eq!(cli.global.log, "debug");
        let cli = parse(toml, &["drover", "up", "--hubs=1"]).unwrap();
        assert!(matches!(cli.command, crate::cli::Command::Up(up) if up.hubs == 1));
    }

    #[test]
    fn a_file_of_fedora_messaging_is_one_of_publish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "amqp_url = \"amqps://x\"\n[tls]\nca_cert = \"a\"\n").unwrap();
        let run = |words: &[&str]| {
            let words = [&["drover"], words, &["--config", path.to_str().unwrap()]].concat();
            let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
            Ok::<_, anyhow::Error>(Cli::from_arg_matches(
                &command(&arguments)?.try_get_matches_from(arguments)?,
            )?)
        };
        for (more, expected) in [
            (&[][..], path.as_path()),
            (&["--conf", "other"], "other".as_ref()),
        ] {
            let words = [&["publish", "--topic", "a", "--body", "{}"], more].concat();
            let crate::cli::Command::Publish(publish) = run(&words).unwrap().command else {
                panic!("not publish")
            };
            assert_eq!(publish.conf.as_deref(), Some(expected));
        }
        let error = run(&["up"]).unwrap_err();
        assert!(
            format!("{error:#}").contains("key amqp_url is no option"),
            "{error:#}"
        );
    }

    #[test]
    fn what_no_option_is_called_is_refused() {
        let error = parse("[up]\nhub = 1\n", &["drover", "up"]).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("table [up]: key hub is no option; options are hubs"),
            "{error:#}"
        );
        let error = parse("[down]\n", &["drover", "up"]).unwrap_err();
        assert!(
            error.to_string().starts_with("table [down] is no command"),
            "{error}"
        );
    }
}
