//! Our definitions accept everything that upstream's accept: each property is there with its type, and no bound is
//! tighter.

use std::fs;

use drover_api::crds;
use drover_testkit::program;
use serde_json::{Map, Value};

/// Bounds of which ours may be absent or the same.
const SAME: &[&str] = &["pattern", "format"];
/// Bounds of which ours may be absent, the same or higher.
const AT_MOST: &[&str] = &["maximum", "maxLength", "maxItems", "maxProperties"];
/// Bounds of which ours may be absent, the same or lower.
const AT_LEAST: &[&str] = &["minimum", "minLength", "minItems", "minProperties"];

#[test]
fn what_upstream_accepts_is_accepted() {
    let upstream = upstream();
    let mut found = Vec::new();
    // The definition of FedoraMessage has no upstream but its proposal.
    for definition in crds::hub().into_iter().chain(crds::managed()) {
        let ours = serde_json::to_value(&definition).expect("a definition is JSON");
        let name = ours["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let theirs = upstream
            .iter()
            .find(|theirs| theirs["metadata"]["name"] == *name);
        let theirs = theirs.unwrap_or_else(|| panic!("upstream has no {name}"));
        if ours["spec"]["scope"] != theirs["spec"]["scope"] {
            found.push(format!("{name}: another scope"));
        }
        let ours = versions(&ours);
        for (version, theirs) in versions(theirs) {
            if theirs["served"] != true {
                continue;
            }
            match ours.get(&version) {
                Some(ours) => {
                    let place = format!("{name} {version}");
                    compare(&place, schema(ours), schema(&theirs), &mut found);
                    if !theirs["subresources"]["status"].is_null()
                        && ours["subresources"]["status"].is_null()
                    {
                        found.push(format!("{place}: no status"));
                    }
                }
                None => found.push(format!("{name}: {version} is not there")),
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn upstream() -> Vec<Value> {
    let folder = program("crds").expect("the peers are built");
    let files = fs::read_dir(folder).expect("the definitions are there");
    files
        .map(|file| {
            let text =
                fs::read_to_string(file.expect("a file").path()).expect("a definition can be read");
            serde_saphyr::from_str(&text).expect("a definition is YAML")
        })
        .collect()
}

fn versions(definition: &Value) -> Map<String, Value> {
    let list = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten();
    list.filter_map(|version| Some((version["name"].as_str()?.to_owned(), version.clone())))
        .collect()
}

fn schema(version: &Value) -> &Value {
    &version["schema"]["openAPIV3Schema"]
}

fn is_open(ours: &Value) -> bool {
    ours["x-kubernetes-preserve-unknown-fields"] == true
}

fn compare(place: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    let any = is_open(ours) && ours["type"].is_null();
    if !any && ours["type"] != theirs["type"] && ours["x-kubernetes-int-or-string"] != true {
        found.push(format!(
            "{place}: type {} instead of {}",
            ours["type"], theirs["type"]
        ));
    }
    if is_open(theirs) && !is_open(ours) {
        found.push(format!("{place}: unknown fields are dropped"));
    }
    for bound in SAME {
        if !ours[bound].is_null() && ours[bound] != theirs[bound] {
            found.push(format!(
                "{place}: {bound} {} instead of {}",
                ours[bound], theirs[bound]
            ));
        }
    }
    for (bounds, tighter) in [(AT_MOST, -1.0), (AT_LEAST, 1.0)] {
        for bound in bounds {
            let (our, their) = (ours[bound].as_f64(), theirs[bound].as_f64());
            // A bound of nothing bounds nothing.
            let idle = tighter > 0.0 && our == Some(0.0) && *bound != "minimum";
            let within = match (our, their) {
                (Some(our), Some(their)) => (our - their) * tighter <= 0.0,
                (Some(_), None) => idle,
                (None, _) => true,
            };
            if !within {
                found.push(format!("{place}: {bound} {our:?} instead of {their:?}"));
            }
        }
    }
    values(place, ours, theirs, found);
    parts(place, ours, theirs, found);
}

fn values(place: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let known = list(ours, "enum");
    let unknown = list(theirs, "enum")
        .into_iter()
        .filter(|value| !known.contains(value));
    let unknown: Vec<Value> = unknown.collect();
    if !known.is_empty() && (theirs["enum"].is_null() || !unknown.is_empty()) {
        found.push(format!(
            "{place}: does not know the values {unknown:?} (knows {known:?})"
        ));
    }
    let asked = list(theirs, "required");
    for name in list(ours, "required") {
        let defaulted =
            !theirs["properties"][name.as_str().unwrap_or_default()]["default"].is_null();
        if !asked.contains(&name) && !defaulted {
            found.push(format!("{place}: {name} is required"));
        }
    }
    let rules = |of: &Value| {
        let all = list(of, "x-kubernetes-validations").into_iter();
        all.map(|rule| rule["rule"].clone()).collect::<Vec<_>>()
    };
    let theirs = rules(theirs);
    for rule in rules(ours)
        .into_iter()
        .filter(|rule| !theirs.contains(rule))
    {
        found.push(format!("{place}: a rule of our own, {rule}"));
    }
}

fn parts(place: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    for (name, theirs) in theirs["properties"].as_object().into_iter().flatten() {
        let top = !place.contains('.') || !place.contains(" v");
        if top && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        match ours["properties"].get(name) {
            Some(ours) => compare(&format!("{place} .{name}"), ours, theirs, found),
            None if is_open(ours) => {}
            None => found.push(format!("{place}: no property {name}")),
        }
    }
    for (name, theirs) in ["items", "additionalProperties"].map(|name| (name, &theirs[name])) {
        if theirs.is_object() {
            let ours = &ours[name];
            if ours.is_object() {
                compare(&format!("{place} {name}"), ours, theirs, found);
            }
        }
    }
    for mark in [
        "x-kubernetes-embedded-resource",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ] {
        let stricter = ours[mark] == true && theirs[mark] != true;
        let other = mark != "x-kubernetes-embedded-resource"
            && !theirs[mark].is_null()
            && ours[mark] != theirs[mark];
        if stricter || other {
            found.push(format!(
                "{place}: {mark} {} instead of {}",
                ours[mark], theirs[mark]
            ));
        }
    }
}
