//! Flags as Go programs take them: `-name=value` or `-name value`, one dash or two.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow};

/// Flags by name. Unknown ones are allowed: every role is given the same.
#[derive(Debug, Default)]
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    /// Reads arguments.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut flags = BTreeMap::new();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let name = arg
                .strip_prefix("--")
                .or_else(|| arg.strip_prefix('-'))
                .ok_or_else(|| anyhow!("{arg:?} is no flag: flags begin with a dash"))?;
            let (name, value) = if let Some((name, value)) = name.split_once('=') {
                (name.to_owned(), value.to_owned())
            } else {
                let value = args.next();
                let value = value.with_context(|| format!("-{name} needs a value"))?;
                (name.to_owned(), value)
            };
            flags.insert(name, value);
        }
        Ok(Self(flags))
    }

    /// A text, empty when absent.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A number.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| anyhow!("-{name}={text} is no number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Flags;

    fn read(args: &[&str]) -> Flags {
        Flags::parse(args.iter().map(|arg| (*arg).to_owned())).unwrap()
    }

    #[test]
    fn both_forms_and_dashes_are_read() {
        let flags = read(&["-addr=127.0.0.1:1", "--reps", "3", "-ca="]);
        assert_eq!((flags.text("addr"), flags.text("ca")), ("127.0.0.1:1", ""));
        assert_eq!(flags.number("reps", 5).unwrap(), 3);
        assert_eq!(flags.number("size", 1024).unwrap(), 1024);
    }

    #[test]
    fn a_flag_without_a_value_is_refused() {
        assert!(Flags::parse(["-reps".to_owned()]).is_err());
        assert!(Flags::parse(["reps=1".to_owned()]).is_err());
    }
}
