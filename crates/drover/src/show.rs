//! How rows look on a screen: a tree, tables, and lines that change. Pure: rows in, lines out.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::view::{Cluster, Hub, Problem, Severity, Tally, Work, ago, natural};

/// How many clusters of a hub, and how many works of a cluster, a tree shows unless all are asked for.
const CLUSTERS: usize = 20;
const WORKS: usize = 8;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Much {
    /// The worst, and how many there are besides.
    Brief,
    /// Every row.
    All,
    /// Every row, and everything that is known of it.
    Everything,
}

/// What stands before a name.
fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Failing => "✗",
        Severity::Waiting => "…",
        Severity::Good => "✓",
    }
}

/// How something is, in a word.
pub fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Failing => "Failing",
        Severity::Waiting => "Waiting",
        Severity::Good => "Good",
    }
}

/// `1 work`, `2 works`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn tally(tally: Tally, noun: &str) -> String {
    let parts = [(tally.failing, "failing"), (tally.waiting, "waiting")];
    let wrong: Vec<String> = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let total = count(tally.total(), noun);
    match wrong.as_slice() {
        [] => total,
        wrong => format!("{total} ({})", wrong.join(", ")),
    }
}

/// A problem on one line.
fn told(problem: &Problem, now: Option<Timestamp>) -> String {
    // Messages of APIs come with line breaks.
    let text: Vec<&str> = problem.text.split_whitespace().collect();
    let text = text.join(" ");
    match (problem.since, now) {
        (Some(since), Some(now)) => format!("{text} (for {})", ago(now, since)),
        _ => text,
    }
}

/// The fleet as a tree, the worst first.
pub fn tree(hubs: &[Hub], much: Much, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for hub in hubs {
        let (clusters, works) = hub.tallies();
        let sums = format!("{}, {}", tally(clusters, "cluster"), tally(works, "work"));
        match &hub.problem {
            Some(problem) if hub.clusters.is_empty() => {
                lines.push(format!("{}  ✗ {problem}", hub.name));
            }
            Some(problem) => lines.push(format!("{}  ✗ {problem}; last seen: {sums}", hub.name)),
            None => lines.push(format!("{}  {sums}", hub.name)),
        }
        let all = hub.ordered();
        let shown = if much == Much::Brief {
            CLUSTERS
        } else {
            all.len()
        };
        let hidden = all.len().saturating_sub(shown);
        for (at, (cluster, works)) in all.iter().take(shown).enumerate() {
            let last = at + 1 == all.len();
            let (branch, stem) = if last {
                ("└─", "   ")
            } else {
                ("├─", "│  ")
            };
            lines.push(format!("{branch} {}", headline(cluster, works, now)));
            details(cluster, stem, much, now, &mut lines);
            branches(works, stem, much, now, &mut lines);
        }
        if hidden > 0 {
            let rest = all.iter().skip(shown).map(|(cluster, works)| {
                let work = works.first().map_or(Severity::Good, |work| work.severity());
                cluster.severity().min(work)
            });
            lines.push(format!("└─ {}", hidden_line(rest, "cluster")));
        }
    }
    lines
}

fn hidden_line(rest: impl Iterator<Item = Severity>, noun: &str) -> String {
    let mut sum = Tally::default();
    rest.for_each(|severity| sum.add(severity));
    let what = if sum.failing + sum.waiting == 0 {
        format!("{}, all good", count(sum.total(), noun))
    } else {
        tally(sum, noun)
    };
    format!("and {what}; --all shows them")
}

fn headline(cluster: &Cluster, works: &[&Work], now: Timestamp) -> String {
    let state = match cluster.problems.first() {
        Some(problem) => told(problem, Some(now)),
        None => "Available".to_owned(),
    };
    let sum = Tally::of(works);
    let version = match cluster.kubernetes.as_str() {
        "" => String::new(),
        version => format!("  {version}"),
    };
    format!(
        "{} {}  {state}{version}  {}",
        mark(cluster.severity()),
        cluster.name,
        tally(sum, "work")
    )
}

/// What else is known of a cluster.
fn details(cluster: &Cluster, stem: &str, much: Much, now: Timestamp, lines: &mut Vec<String>) {
    for problem in cluster.problems.iter().skip(1) {
        lines.push(format!("{stem}{}", told(problem, Some(now))));
    }
    if much != Much::Everything {
        return;
    }
    for (name, value) in &cluster.capacity {
        lines.push(format!("{stem}{name}: {value}"));
    }
    if !cluster.cluster_set.is_empty() {
        lines.push(format!("{stem}set: {}", cluster.cluster_set));
    }
    for taint in &cluster.taints {
        lines.push(format!("{stem}taint: {taint}"));
    }
}

fn branches(works: &[&Work], stem: &str, much: Much, now: Timestamp, lines: &mut Vec<String>) {
    let shown = if much == Much::Brief {
        WORKS
    } else {
        works.len()
    };
    for (at, work) in works.iter().take(shown).enumerate() {
        let last = at + 1 == works.len();
        let (branch, deeper) = if last {
            ("└─", "   ")
        } else {
            ("├─", "│  ")
        };
        let mut states = format!("Applied={} Available={}", work.applied, work.available);
        if let Some(healthy) = &work.healthy {
            states.push_str(" Healthy=");
            states.push_str(healthy);
        }
        let manifests = count(work.manifests, "manifest");
        let mark = mark(work.severity());
        lines.push(format!(
            "{stem}{branch} {mark} {}  {manifests}, {states}",
            work.name
        ));
        let problems = if much == Much::Brief {
            3
        } else {
            work.problems.len()
        };
        for problem in work.problems.iter().take(problems) {
            lines.push(format!("{stem}{deeper}{}", told(problem, Some(now))));
        }
        if work.problems.len() > problems {
            let more = work.problems.len() - problems;
            lines.push(format!("{stem}{deeper}and {more} more"));
        }
        if much == Much::Everything {
            lines.extend(
                work.feedback
                    .iter()
                    .map(|text| format!("{stem}{deeper}{text}")),
            );
        }
    }
    let rest = works.iter().skip(shown).map(|work| work.severity());
    if works.len() > shown {
        lines.push(format!("{stem}└─ {}", hidden_line(rest, "work")));
    }
}

/// Rows under headings. The key says what a row is about, and sorts what changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The headings.
    pub headings: Vec<&'static str>,
    /// The rows, in order.
    pub rows: Vec<(Vec<String>, Vec<String>)>,
}

/// How times are told: so long ago, or not at all, where a row shall change only with what it tells of.
pub type Now = Option<Timestamp>;

/// What is wrong, in one column.
fn column(problems: &[Problem], wide: bool, now: Now) -> String {
    let first = problems.first().map(|problem| told(problem, now));
    match (first, problems.len()) {
        (None, _) => String::new(),
        (Some(first), 1) => first,
        (Some(_), _) if wide => {
            let all: Vec<String> = problems.iter().map(|problem| told(problem, now)).collect();
            all.join("; ")
        }
        (Some(first), number) => format!("{first} (and {} more)", number - 1),
    }
}

fn age(created: Option<Timestamp>, now: Now) -> Option<String> {
    let now = now?;
    Some(created.map_or_else(String::new, |created| ago(now, created)))
}

/// The clusters of all hubs, the worst first.
pub fn clusters(hubs: &[Hub], wide: bool, now: Now) -> Rows {
    let mut all: Vec<(&Hub, &Cluster, Vec<&Work>)> = hubs
        .iter()
        .flat_map(|hub| {
            let ordered = hub.ordered().into_iter();
            ordered.map(move |(cluster, works)| (hub, cluster, works))
        })
        .collect();
    all.sort_by_key(|(_, cluster, works)| {
        let work = works.first().map_or(Severity::Good, |work| work.severity());
        (cluster.severity(), work, natural(&cluster.name))
    });
    let mut headings = vec!["name", "hub", "accepted", "joined", "available"];
    headings.extend(now.map(|_| "age"));
    headings.extend(["kubernetes", "works"]);
    if wide {
        headings.extend(["set", "cpu", "memory", "taints"]);
    }
    headings.push("problem");
    let yes = |is: bool| if is { "True" } else { "False" }.to_owned();
    let rows = all.into_iter().map(|(hub, cluster, works)| {
        let sum = Tally::of(&works);
        let mut row = vec![
            cluster.name.clone(),
            hub.name.clone(),
            yes(cluster.accepted),
            yes(cluster.joined),
            cluster.available.clone(),
        ];
        row.extend(age(cluster.created, now));
        row.push(cluster.kubernetes.clone());
        row.push(format!("{}/{}", sum.good, sum.total()));
        if wide {
            let of = |name: &str| cluster.capacity.get(name).cloned().unwrap_or_default();
            row.extend([cluster.cluster_set.clone(), of("cpu"), of("memory")]);
            row.push(cluster.taints.join(","));
        }
        row.push(column(&cluster.problems, wide, now));
        (vec![hub.name.clone(), cluster.name.clone()], row)
    });
    Rows {
        rows: rows.collect(),
        headings,
    }
}

/// The works of all hubs, the worst first.
pub fn works(hubs: &[Hub], wide: bool, now: Now) -> Rows {
    let mut all: Vec<(&Hub, &String, &Work)> = hubs
        .iter()
        .flat_map(|hub| hub.works.iter().map(move |((of, _), work)| (hub, of, work)))
        .collect();
    all.sort_by_key(|(_, cluster, work)| (work.severity(), natural(cluster), natural(&work.name)));
    let mut headings = vec!["cluster", "name", "applied", "available", "healthy"];
    headings.extend(now.map(|_| "age"));
    if wide {
        headings.extend(["hub", "generation", "manifests", "feedback"]);
    }
    headings.push("problem");
    let rows = all.into_iter().map(|(hub, cluster, work)| {
        let mut row = vec![
            cluster.clone(),
            work.name.clone(),
            work.applied.clone(),
            work.available.clone(),
            work.healthy.clone().unwrap_or_default(),
        ];
        row.extend(age(work.created, now));
        if wide {
            row.extend([hub.name.clone(), work.generation.to_string()]);
            row.extend([work.manifests.to_string(), work.feedback.join(", ")]);
        }
        row.push(column(&work.problems, wide, now));
        (
            vec![hub.name.clone(), cluster.clone(), work.name.clone()],
            row,
        )
    });
    Rows {
        rows: rows.collect(),
        headings,
    }
}

/// Hubs, clusters and works as one list, for whoever follows a fleet line by line.
pub fn states(hubs: &[Hub]) -> Rows {
    let mut rows = Vec::new();
    let mut add = |key: [&str; 3], severity: Severity, text: String| {
        let key: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
        let mut row = key.clone();
        row.extend([word(severity).to_owned(), text]);
        rows.push((key, row));
    };
    for hub in hubs {
        let severity = hub
            .problem
            .as_ref()
            .map_or(Severity::Good, |_| Severity::Failing);
        let text = hub.problem.clone().unwrap_or_default();
        add([&hub.name, "", ""], severity, text);
        for (cluster, works) in hub.ordered() {
            let text = column(&cluster.problems, false, None);
            add([&hub.name, &cluster.name, ""], cluster.severity(), text);
            for work in works {
                let text = column(&work.problems, false, None);
                add(
                    [&hub.name, &cluster.name, &work.name],
                    work.severity(),
                    text,
                );
            }
        }
    }
    Rows {
        headings: vec!["hub", "cluster", "work", "state", "problem"],
        rows,
    }
}

impl Rows {
    /// The lines of a table.
    pub fn lines(self) -> Vec<String> {
        let headings: Vec<String> = self
            .headings
            .iter()
            .map(|text| text.to_uppercase())
            .collect();
        columns(Some(headings), self.rows.into_iter().map(|(_, row)| row))
    }

    /// The rows that are new, differ from before, or are gone.
    pub fn since(&self, before: &Self) -> Vec<Vec<String>> {
        let known: BTreeMap<_, _> = before.rows.iter().map(|(key, row)| (key, row)).collect();
        let here: BTreeMap<_, _> = self.rows.iter().map(|(key, row)| (key, row)).collect();
        let news = self
            .rows
            .iter()
            .filter(|(key, row)| known.get(key) != Some(&row));
        let gone = before
            .rows
            .iter()
            .filter(|(key, _)| !here.contains_key(key));
        let mut rows: Vec<Vec<String>> = news.map(|(_, row)| row.clone()).collect();
        rows.extend(gone.map(|(key, _)| {
            let mut row = key.clone();
            row.push("gone".to_owned());
            row
        }));
        rows
    }
}

/// Rows in columns, as kubectl prints them.
pub fn columns(
    headings: Option<Vec<String>>,
    rows: impl Iterator<Item = Vec<String>>,
) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(headings) = headings {
        table.set_header(headings);
    }
    let mut empty = true;
    for row in rows {
        empty = false;
        table.add_row(row);
    }
    if empty && table.header().is_none() {
        return Vec::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
        .lines()
        .map(|text| text.trim_end().to_owned())
        .collect()
}

/// Everything that is known, for programs.
pub fn document(hubs: &[Hub]) -> Value {
    let hub = |hub: &Hub| {
        let clusters: Vec<Value> = hub.ordered().into_iter().map(cluster_value).collect();
        let mut value = json!({"name": hub.name, "clusters": clusters});
        if let Some(problem) = &hub.problem {
            value["problem"] = json!(problem);
        }
        value
    };
    json!({"hubs": hubs.iter().map(hub).collect::<Vec<_>>()})
}

fn cluster_value((cluster, works): (&Cluster, Vec<&Work>)) -> Value {
    let mut value = json!(cluster);
    value["works"] = json!(works);
    value
}

/// The clusters, for programs.
pub fn cluster_list(hubs: &[Hub]) -> Value {
    let of_hub = |hub: &Hub| -> Vec<Value> {
        let one = |(cluster, _): (&Cluster, Vec<&Work>)| {
            let mut value = json!(cluster);
            value["hub"] = json!(hub.name);
            value
        };
        hub.ordered().into_iter().map(one).collect()
    };
    json!({"clusters": hubs.iter().flat_map(of_hub).collect::<Vec<_>>()})
}

/// The works, for programs.
pub fn work_list(hubs: &[Hub]) -> Value {
    let of_hub = |hub: &Hub| -> Vec<Value> {
        let one = |((cluster, _), work): (&(String, String), &Work)| {
            let mut value = json!(work);
            value["hub"] = json!(hub.name);
            value["cluster"] = json!(cluster);
            value
        };
        hub.works.iter().map(one).collect()
    };
    json!({"works": hubs.iter().flat_map(of_hub).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests;
