//! docs/compatibility.md, written by the tests that find out.
//!
//! The page has sections between `<!-- begin NAME -->` and `<!-- end NAME -->`, each the property of one test. A test makes
//! a [`Table`] of what it saw and [checks](Table::check) it: the section in the tree must say the same. With
//! `UPDATE_GOLDEN` set the section is written instead (`cargo xtask golden --peers`).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What became of one cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was tried, and it works.
    Pass,
    /// It cannot be: why.
    Never(String),
    /// It was tried, and it fails because of the peer alone: how.
    Peer(String),
}

/// One table, and the text before it.
#[derive(Clone, Debug)]
pub struct Table {
    section: String,
    head: String,
    columns: Vec<String>,
    rows: Vec<(Vec<String>, Vec<Outcome>)>,
}

impl Table {
    /// A table without rows. `head` is Markdown that comes before it: versions of the peers, for one. The first columns of
    /// every row are text, the others are outcomes.
    pub fn new(section: &str, head: &str, columns: &[&str]) -> Self {
        Self {
            section: section.to_owned(),
            head: head.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: what it is about, then its outcomes. Together as many as there are columns.
    ///
    /// # Panics
    /// When they are not.
    pub fn row(&mut self, about: &[&str], cells: Vec<Outcome>) {
        assert_eq!(
            about.len() + cells.len(),
            self.columns.len(),
            "{about:?} has not one cell for each column"
        );
        let about = about.iter().map(|&text| text.to_owned()).collect();
        self.rows.push((about, cells));
    }

    /// Compares with the section in the tree, or writes it when `UPDATE_GOLDEN` is set.
    ///
    /// # Errors
    /// When the page says something else.
    pub fn check(&self) -> Result<()> {
        self.check_in(&page())
    }

    fn check_in(&self, page: &Path) -> Result<()> {
        // Several tests may write their sections at once.
        let guard = File::open(page)
            .with_context(|| format!("{} is where results are kept", page.display()))?;
        guard.lock()?;
        let text = fs::read_to_string(page)?;
        let (begin, end) = (
            format!("<!-- begin {} -->\n", self.section),
            format!("<!-- end {} -->", self.section),
        );
        let found = text.split_once(&begin).and_then(|(before, rest)| {
            let (section, after) = rest.split_once(&end)?;
            Some((before, section, after))
        });
        let Some((before, section, after)) = found else {
            bail!(
                "{} has no section {}: add {begin}{end}",
                page.display(),
                self.section
            );
        };
        let rendered = self.render();
        if section == rendered {
            return Ok(());
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(page, format!("{before}{begin}{rendered}{end}{after}"))?;
            return Ok(());
        }
        bail!(
            "{} does not say what happened; `cargo xtask golden --peers` writes it. Now:\n{rendered}",
            page.display()
        )
    }

    fn render(&self) -> String {
        let mut notes: Vec<&str> = Vec::new();
        let mut body = String::new();
        for (about, cells) in &self.rows {
            let mut line: Vec<String> = about.clone();
            for cell in cells {
                line.push(match cell {
                    Outcome::Pass => "pass".to_owned(),
                    Outcome::Never(why) => format!("n/a {}", note(&mut notes, why)),
                    Outcome::Peer(how) => format!("fails {}", note(&mut notes, how)),
                });
            }
            push(&mut body, format_args!("| {} |\n", line.join(" | ")));
        }
        let mut text = format!("{}\n\n", self.head.trim());
        push(
            &mut text,
            format_args!("| {} |\n", self.columns.join(" | ")),
        );
        push(
            &mut text,
            format_args!("|{}\n", "---|".repeat(self.columns.len())),
        );
        text.push_str(&body);
        for (index, why) in notes.iter().enumerate() {
            push(&mut text, format_args!("\n{}. {why}", index + 1));
        }
        if !notes.is_empty() {
            text.push('\n');
        }
        text
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes every write");
}

/// The number of a footnote; equal ones share it.
fn note<'a>(notes: &mut Vec<&'a str>, why: &'a str) -> String {
    let at = notes.iter().position(|known| *known == why);
    let at = at.unwrap_or_else(|| {
        notes.push(why);
        notes.len() - 1
    });
    format!("({})", at + 1)
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("a", "Go 1", &["from", "to", "create", "delete"]);
        table.row(
            &["x", "y"],
            vec![Outcome::Pass, Outcome::Never("no way".to_owned())],
        );
        table.row(
            &["y", "x"],
            vec![
                Outcome::Peer("it forgets".to_owned()),
                Outcome::Never("no way".to_owned()),
            ],
        );
        table
    }

    #[test]
    fn equal_reasons_share_a_note() {
        assert_eq!(
            table().render(),
            "Go 1\n\n| from | to | create | delete |\n|---|---|---|---|\n| x | y | pass | n/a (1) |\n| y | x | fails (2) | n/a (1) |\n\n1. no way\n2. it forgets\n"
        );
    }

    #[test]
    fn a_page_that_says_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        let with = |section: &str| {
            let text = format!("# Title\n<!-- begin a -->\n{section}<!-- end a -->\nrest\n");
            fs::write(&page, text).unwrap();
            table().check_in(&page)
        };
        assert!(with("old\n").unwrap_err().to_string().contains("pass"));
        with(&table().render()).unwrap();
        fs::write(&page, "# Title\n").unwrap();
        let error = table().check_in(&page).unwrap_err().to_string();
        assert!(error.contains("no section a"), "{error}");
    }
}
