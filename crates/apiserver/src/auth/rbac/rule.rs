//! What one rule allows, and whether rules cover other rules
//! (kubernetes: pkg/apis/rbac/v1/evaluation_helpers.go; component-helpers: auth/rbac/validation).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::auth::user::Attributes;

/// One PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `*` is every verb.
    pub verbs: Vec<String>,
    /// `*` is every group, the empty text is the core group.
    pub groups: Vec<String>,
    /// `*`, `pods`, `pods/status`, `*/status`.
    pub resources: Vec<String>,
    /// Empty means every name.
    pub names: Vec<String>,
    /// Paths; `*` at the end stands for anything.
    pub urls: Vec<String>,
}

impl Rule {
    /// Reads `rules` of a role; what is not a rule is no rule.
    pub fn list(rules: &Value) -> Vec<Self> {
        rules
            .as_array()
            .map(|list| list.iter().map(Self::read).collect())
            .unwrap_or_default()
    }

    fn read(rule: &Value) -> Self {
        Self {
            verbs: strings(&rule["verbs"]),
            groups: strings(&rule["apiGroups"]),
            resources: strings(&rule["resources"]),
            names: strings(&rule["resourceNames"]),
            urls: strings(&rule["nonResourceURLs"]),
        }
    }

    /// The rule as it is in objects: empty lists are left out.
    pub fn to_value(&self) -> Value {
        let mut rule = Map::new();
        for (key, list) in self.parts() {
            if !list.is_empty() {
                rule.insert(key.to_owned(), json!(list));
            }
        }
        Value::Object(rule)
    }

    fn parts(&self) -> [(&'static str, &Vec<String>); 5] {
        [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ]
    }

    /// Whether this rule allows it.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.is_resource() {
            return self.urls.iter().any(|url| url_covers(url, asked.path));
        }
        has(&self.groups, asked.group)
            && self
                .resources
                .iter()
                .any(|resource| resource_allows(resource, asked))
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    /// One rule for each combination of group, resource, verb and name.
    fn broken_down(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Self {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.names.is_empty() {
                        atoms.push(atom);
                    } else {
                        atoms.extend(self.names.iter().map(|n| Self {
                            names: one(n),
                            ..atom.clone()
                        }));
                    }
                }
            }
        }
        for url in &self.urls {
            for verb in &self.verbs {
                atoms.push(Self {
                    verbs: one(verb),
                    urls: one(url),
                    ..Self::default()
                });
            }
        }
        atoms
    }

    /// Whether this rule allows all that an atom of [`Self::broken_down`] allows.
    fn covers(&self, atom: &Self) -> bool {
        let names = self.names.is_empty()
            || (!atom.names.is_empty() && atom.names.iter().all(|name| self.names.contains(name)));
        names
            && atom.verbs.iter().all(|verb| has(&self.verbs, verb))
            && atom.groups.iter().all(|group| has(&self.groups, group))
            && atom
                .resources
                .iter()
                .all(|resource| self.covers_resource(resource))
            && atom
                .urls
                .iter()
                .all(|url| self.urls.iter().any(|own| url_covers(own, url)))
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        self.resources.iter().any(|own| {
            own == "*"
                || own == wanted
                || match (own.strip_prefix("*/"), wanted.split_once('/')) {
                    (Some(own), Some((_, subresource))) => own == subresource,
                    _ => false,
                }
        })
    }
}

/// What of `wanted` is not in `owned`, in the words of Kubernetes, one text for each resource.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> BTreeSet<String> {
    // Atoms that differ only by verb become one line.
    let mut missing: BTreeMap<[Vec<String>; 3], Vec<String>> = BTreeMap::new();
    let mut lines = BTreeSet::new();
    for atom in wanted.iter().flat_map(Rule::broken_down) {
        if owned.iter().any(|rule| rule.covers(&atom)) {
            continue;
        }
        if atom.urls.is_empty() {
            missing
                .entry([atom.groups, atom.resources, atom.names])
                .or_default()
                .extend(atom.verbs);
        } else {
            lines.insert(describe(&atom));
        }
    }
    lines.extend(
        missing
            .into_iter()
            .map(|([groups, resources, names], verbs)| {
                describe(&Rule {
                    verbs,
                    groups,
                    resources,
                    names,
                    ..Rule::default()
                })
            }),
    );
    lines
}

/// kubernetes: pkg/apis/rbac/v1/evaluation_helpers.go, CompactString.
fn describe(rule: &Rule) -> String {
    let parts: Vec<String> = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.urls),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ]
    .into_iter()
    .filter(|(_, list)| !list.is_empty())
    .map(|(title, list)| format!("{title}:{}", quoted(list)))
    .collect();
    format!("{{{}}}", parts.join(", "))
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub(crate) fn quoted(list: &[String]) -> String {
    let texts: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

fn strings(list: &Value) -> Vec<String> {
    let texts = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn has(set: &[String], wanted: &str) -> bool {
    set.iter().any(|one| one == "*" || one == wanted)
}

fn resource_allows(own: &str, asked: &Attributes<'_>) -> bool {
    if own == "*" {
        return true;
    }
    if asked.subresource.is_empty() {
        return own == asked.resource;
    }
    match own.split_once('/') {
        Some((resource, subresource)) => {
            subresource == asked.subresource && (resource == "*" || resource == asked.resource)
        }
        None => false,
    }
}

fn url_covers(own: &str, path: &str) -> bool {
    own == path || (own.ends_with('*') && path.starts_with(own.trim_end_matches('*')))
}
