//! The tree against what ARCHITECTURE.md says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use regex::Regex;

/// Crates that decide or describe: nothing in their normal dependencies may do I/O.
const PURE: &[&str] = &[
    "drover-api",
    "drover-schema",
    "drover-protocol",
    "drover-core",
];
/// Libraries that do I/O.
const IO: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "kube-client",
    "tonic",
    "rusqlite",
    "reqwest",
];
/// Lines of product code (without tests) that a file may have.
const LONGEST_FILE: usize = 700;

/// Checks everything, and reports all findings at once.
pub(crate) fn check() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .exec()?;
    let mut findings = Vec::new();
    arrows(&root, &metadata, &mut findings)?;
    purity(&metadata, &mut findings);
    files(&root, &mut findings)?;
    links(&root, &mut findings)?;
    proofs(&root, &mut findings)?;
    if findings.is_empty() {
        return Ok(());
    }
    bail!("the tree is not tidy:\n  {}", findings.join("\n  "));
}

/// The table of crates in ARCHITECTURE.md is the law: a row for each crate, with what it may import.
fn arrows(root: &Path, metadata: &Metadata, findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    let row = Regex::new(r"(?m)^\| `([a-z]+)` \|.*\| ([^|]*) \|$")?;
    let law: BTreeMap<String, Vec<String>> = row
        .captures_iter(&text)
        .map(|found| {
            let may = found[2]
                .split(',')
                .map(|name| name.trim().trim_matches('`').to_owned());
            (found[1].to_owned(), may.collect())
        })
        .collect();
    for package in metadata.workspace_packages() {
        if package.name.as_str() == "xtask" {
            continue;
        }
        let name = package.name.trim_start_matches("drover-");
        let Some(may) = law.get(name) else {
            findings.push(format!("ARCHITECTURE.md has no row for crate {name}"));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(theirs) = dependency.name.strip_prefix("drover-") else {
                continue;
            };
            if dependency.kind == DependencyKind::Normal
                && !may.iter().any(|m| m == theirs || m == "all")
            {
                findings.push(format!(
                    "{name} imports {theirs}, which ARCHITECTURE.md does not allow"
                ));
            }
        }
    }
    for name in law.keys() {
        if !metadata
            .workspace_packages()
            .iter()
            .any(|p| p.name.trim_start_matches("drover-") == name)
        {
            findings.push(format!(
                "ARCHITECTURE.md has a row for {name}, which is no crate"
            ));
        }
    }
    Ok(())
}

fn purity(metadata: &Metadata, findings: &mut Vec<String>) {
    for package in metadata.workspace_packages() {
        if !PURE.contains(&package.name.as_str()) {
            continue;
        }
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Normal && IO.contains(&dependency.name.as_str()) {
                findings.push(format!(
                    "{} must do no I/O, but imports {}",
                    package.name, dependency.name
                ));
            }
        }
    }
}

fn files(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let mut sources = Vec::new();
    for folder in ["crates", "xtask/src"] {
        walk(&root.join(folder), "rs", &mut sources)?;
    }
    for path in sources {
        let text = fs::read_to_string(&path)?;
        let name = path.strip_prefix(root)?.display().to_string();
        // Tests are named after what they test.
        if !text.starts_with("//!") && !name.contains("tests") {
            findings.push(format!("{name} does not begin with `//!` and its job"));
        }
        let product = text
            .find("\n#[cfg(test)]\nmod tests")
            .map_or(text.as_str(), |end| &text[..end]);
        let lines = product.lines().count();
        if lines > LONGEST_FILE && !name.contains("tests") {
            findings.push(format!(
                "{name} has {lines} lines of product code, more than {LONGEST_FILE}"
            ));
        }
    }
    Ok(())
}

/// Each row under "Semantics" in docs/compatibility.md names tests, and they exist.
fn proofs(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let mut sources = Vec::new();
    for folder in ["crates", "tests"] {
        walk(&root.join(folder), "rs", &mut sources)?;
    }
    let function = Regex::new(r"fn ([a-z0-9_]+)")?;
    let mut functions = BTreeSet::new();
    for path in sources {
        let text = fs::read_to_string(path)?;
        functions.extend(
            function
                .captures_iter(&text)
                .map(|found| found[1].to_owned()),
        );
    }
    let page = fs::read_to_string(root.join("docs/compatibility.md"))?;
    let (_, semantics) = page
        .split_once("\n## Semantics\n")
        .context("docs/compatibility.md has no section Semantics")?;
    let name = Regex::new("`([a-z0-9_]+)`")?;
    for row in semantics.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        if cells.first() == Some(&" feature") {
            continue;
        }
        let tests: Vec<&str> = cells
            .get(3)
            .map(|cell| {
                name.captures_iter(cell)
                    .filter_map(|found| found.get(1))
                    .map(|m| m.as_str())
                    .collect()
            })
            .unwrap_or_default();
        // A dash: there is nothing that a test could show.
        let none = cells.get(3).is_some_and(|cell| cell.trim() == "–");
        if (tests.is_empty() && !none) || cells.len() != 4 {
            findings.push(format!(
                "docs/compatibility.md: no test is named in the last of four columns: {row}"
            ));
        }
        for test in tests.into_iter().filter(|test| !functions.contains(*test)) {
            findings.push(format!(
                "docs/compatibility.md names the test {test}, which does not exist"
            ));
        }
    }
    Ok(())
}

/// Relative links in Markdown lead somewhere.
fn links(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let link = Regex::new(r"\]\(([^)#:\s]+)(#[^)]*)?\)")?;
    let mut pages = Vec::new();
    walk(&root.join("docs"), "md", &mut pages)?;
    for name in ["README.md", "ARCHITECTURE.md"] {
        pages.push(root.join(name));
    }
    for page in pages {
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let folder = page.parent().unwrap_or(root);
        for found in link.captures_iter(&text) {
            if !folder.join(&found[1]).exists() {
                let name = page.strip_prefix(root)?.display();
                findings.push(format!("{name} links to {}, which is not there", &found[1]));
            }
        }
    }
    Ok(())
}

fn walk(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                walk(&path, extension, into)?;
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            into.push(path);
        }
    }
    Ok(())
}
