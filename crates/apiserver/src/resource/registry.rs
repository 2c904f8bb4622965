//! What is served at the moment: built-in kinds and definitions. Never changed, only replaced.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use drover_schema::builtin;
use drover_schema::crd::CustomKind;
use serde_json::{Value, json};

use super::Resource;

/// A custom resource definition that is served, or waits for its names.
#[derive(Debug)]
pub struct Definition {
    /// Its unique id: another object of the same name is another definition.
    pub uid: String,
    /// Its specification as compiled.
    pub spec: Value,
    /// Compiled.
    pub kind: Arc<CustomKind>,
    /// See [`Resource::since`].
    pub since: u64,
    /// Why its names are not accepted: reason and message.
    pub refused: Option<(&'static str, String)>,
    resources: Vec<Arc<Resource>>,
}

/// The versions of a group, best first.
#[derive(Debug)]
pub struct Group {
    /// Empty for core.
    pub name: Arc<str>,
    /// Version names.
    pub versions: Vec<Arc<str>>,
}

/// What is served.
#[derive(Debug, Default)]
pub struct Registry {
    by_path: HashMap<String, Arc<Resource>>,
    groups: Vec<Group>,
    all: Vec<Arc<Resource>>,
    definitions: BTreeMap<String, Arc<Definition>>,
    /// Documents made from this registry, by name; made when first asked for.
    pub(crate) documents: OnceLock<crate::server::discovery::Documents>,
    pub(crate) openapi: OnceLock<crate::server::discovery::Document>,
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

impl Registry {
    /// The built-in kinds; all servers of a process share them, and the documents made of them.
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: LazyLock<Arc<Registry>> = LazyLock::new(|| {
            let all = builtin::kinds()
                .iter()
                .map(|kind| Arc::new(Resource::builtin(kind)))
                .collect();
            Arc::new(Registry::of(all, BTreeMap::new()))
        });
        Arc::clone(&BUILTIN)
    }

    /// This registry with one definition added, replaced, or (`None`) taken away.
    pub fn with(&self, name: &str, definition: Option<Definition>) -> Self {
        let mut definitions = self.definitions.clone();
        match definition {
            Some(mut definition) => {
                definition.refused = refusal(&definitions, name, &definition.kind);
                if definition.refused.is_none() {
                    let kind = &definition.kind;
                    definition.resources = kind
                        .versions
                        .iter()
                        .filter(|version| version.served)
                        .map(|version| Arc::new(Resource::custom(kind, version, definition.since)))
                        .collect();
                }
                definitions.insert(name.to_owned(), Arc::new(definition));
            }
            None => {
                definitions.remove(name);
            }
        }
        let builtin = self
            .all
            .iter()
            .filter(|r| !r.is_custom())
            .cloned()
            .collect();
        Self::of(builtin, definitions)
    }

    fn of(mut all: Vec<Arc<Resource>>, definitions: BTreeMap<String, Arc<Definition>>) -> Self {
        for definition in definitions.values() {
            all.extend(definition.resources.iter().cloned());
        }
        let mut groups: Vec<Group> = Vec::new();
        for resource in &all {
            let at = groups
                .iter()
                .position(|g| g.name == resource.group)
                .unwrap_or_else(|| {
                    groups.push(Group {
                        name: Arc::clone(&resource.group),
                        versions: Vec::new(),
                    });
                    groups.len() - 1
                });
            if !groups[at].versions.contains(&resource.version) {
                groups[at].versions.push(Arc::clone(&resource.version));
            }
        }
        for group in &mut groups {
            group
                .versions
                .sort_by_key(|version| std::cmp::Reverse(priority(version)));
        }
        let by_path = all
            .iter()
            .map(|r| (path(&r.group, &r.version, &r.plural), Arc::clone(r)))
            .collect();
        Self {
            by_path,
            groups,
            all,
            definitions,
            ..Self::default()
        }
    }

    /// The resource at a path.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&path(group, version, plural))
    }

    /// The served resource of a kind.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.all
            .iter()
            .find(|r| &*r.api_version == api_version && &*r.kind == kind)
    }

    /// A resource that reads what is stored under this name.
    pub fn of_storage(&self, storage: &str) -> Option<&Arc<Resource>> {
        let mut found = self.all.iter().filter(|r| &*r.storage == storage);
        let first = found.next()?;
        if first.api_version == first.stored_as {
            return Some(first);
        }
        Some(
            found
                .find(|r| r.api_version == r.stored_as)
                .unwrap_or(first),
        )
    }

    /// Groups in order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Everything served, in order.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.all
    }

    /// Everything served in a group and version.
    pub fn within<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.all
            .iter()
            .filter(move |r| &*r.group == group && &*r.version == version)
    }

    /// A definition by name (`plural.group`).
    pub fn definition(&self, name: &str) -> Option<&Arc<Definition>> {
        self.definitions.get(name)
    }

    /// The names of all definitions.
    pub fn definition_names(&self) -> impl Iterator<Item = &str> {
        self.definitions.keys().map(String::as_str)
    }
}

impl Definition {
    /// A definition that is not registered yet.
    pub fn new(uid: &str, spec: Value, kind: CustomKind, since: u64) -> Self {
        Self {
            uid: uid.to_owned(),
            spec,
            kind: Arc::new(kind),
            since,
            refused: None,
            resources: Vec::new(),
        }
    }

    /// `status.acceptedNames`.
    pub fn accepted_names(&self) -> Value {
        let kind = &self.kind;
        let mut names = json!({
            "plural": kind.plural, "singular": kind.singular,
            "kind": kind.kind, "listKind": kind.list_kind,
        });
        if !kind.short_names.is_empty() {
            names["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            names["categories"] = json!(kind.categories);
        }
        names
    }
}

/// Why the names of a kind clash with those of another definition in the group.
fn refusal(
    definitions: &BTreeMap<String, Arc<Definition>>,
    name: &str,
    kind: &CustomKind,
) -> Option<(&'static str, String)> {
    let others = || {
        definitions
            .iter()
            .filter(|(other, d)| {
                *other != name && d.kind.group == kind.group && d.refused.is_none()
            })
            .map(|(_, definition)| &definition.kind)
    };
    let resource_taken = |name: &str| {
        others().any(|o| {
            o.plural == name || o.singular == name || o.short_names.iter().any(|s| s == name)
        })
    };
    let kind_taken = |name: &str| others().any(|o| o.kind == name || o.list_kind == name);
    let used = |name: &str| format!("{name:?} is already in use");
    if resource_taken(&kind.plural) {
        return Some(("PluralConflict", used(&kind.plural)));
    }
    if resource_taken(&kind.singular) {
        return Some(("SingularConflict", used(&kind.singular)));
    }
    if let Some(short) = kind.short_names.iter().find(|short| resource_taken(short)) {
        return Some(("ShortNamesConflict", used(short)));
    }
    if kind_taken(&kind.kind) {
        return Some(("KindConflict", used(&kind.kind)));
    }
    if kind_taken(&kind.list_kind) {
        return Some(("ListKindConflict", used(&kind.list_kind)));
    }
    None
}

/// How good a version is: `v2` before `v1` before `v1beta2` before `v1alpha1` before other words
/// (apimachinery: pkg/version/helpers.go).
fn priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major: u64 = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (3, ""),
            tail => match tail.strip_prefix("beta") {
                Some(minor) => (2, minor),
                None => (1, tail.strip_prefix("alpha")?),
            },
        };
        let minor = if stage == 3 { 0 } else { minor.parse().ok()? };
        Some((stage, major, minor))
    });
    let (stage, major, minor) = parsed.unwrap_or((0, 0, 0));
    let word = if stage == 0 {
        version.to_owned()
    } else {
        String::new()
    };
    (stage, major, minor, std::cmp::Reverse(word))
}
