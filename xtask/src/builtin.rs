//! Writes `crates/schema/src/builtin/types.txt`: names, numbers and merge rules of the built-in
//! Kubernetes types, collected from the published Go modules and OpenAPI documents.
//!
//! Facts only: descriptions are not taken over. The output is sorted and depends on nothing but
//! the pinned versions, so that running it twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use regex::Regex;
use serde_json::Value;

/// Modules and the versions that the tables are made from.
const MODULES: &[(&str, &str)] = &[
    ("k8s.io/api", "v0.36.3"),
    ("k8s.io/apimachinery", "v0.36.3"),
    ("k8s.io/apiextensions-apiserver", "v0.36.3"),
    ("k8s.io/kube-aggregator", "v0.36.3"),
];
const KUBERNETES: (&str, &str) = ("k8s.io/kubernetes", "v1.36.3");

/// Packages whose top-level kinds are served, or that those kinds refer to.
const PACKAGES: &[&str] = &[
    "k8s.io/api/admissionregistration/v1",
    "k8s.io/api/apps/v1",
    "k8s.io/api/authentication/v1",
    "k8s.io/api/authorization/v1",
    "k8s.io/api/autoscaling/v1",
    "k8s.io/api/autoscaling/v2",
    "k8s.io/api/batch/v1",
    "k8s.io/api/certificates/v1",
    "k8s.io/api/coordination/v1",
    "k8s.io/api/core/v1",
    "k8s.io/api/discovery/v1",
    "k8s.io/api/events/v1",
    "k8s.io/api/networking/v1",
    "k8s.io/api/node/v1",
    "k8s.io/api/policy/v1",
    "k8s.io/api/rbac/v1",
    "k8s.io/api/scheduling/v1",
    "k8s.io/api/storage/v1",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1",
    "k8s.io/apimachinery/pkg/apis/meta/v1",
    "k8s.io/apimachinery/pkg/types",
    "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1",
];

/// Top-level types of the meta package that are objects on their own.
const META_ROOTS: &[&str] = &["DeleteOptions", "ListMeta", "Status"];

/// Top-level types that no client of ours asks for.
const LEFT_OUT: &[&str] = &[
    "ComponentStatus",
    "RangeAllocation",
    "SerializedReference",
    "ConversionReview",
];

/// Types with their own encoding, known by name to the codecs.
const SPECIAL: &[&str] = &[
    "k8s.io/apimachinery/pkg/api/resource.Quantity",
    "k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1",
    "k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime",
    "k8s.io/apimachinery/pkg/apis/meta/v1.Time",
    "k8s.io/apimachinery/pkg/runtime.RawExtension",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray",
];

/// One line of a Go struct.
#[derive(Clone, Debug)]
struct GoField {
    /// Name of the embedded type, when the field is one.
    embedded: Option<String>,
    /// Type as written, with package aliases resolved (`k8s.io/api/core/v1.Pod`).
    ty: String,
    json: String,
    inline: bool,
    omit_empty: bool,
    omit_zero: bool,
    number: Option<u32>,
}

#[derive(Clone, Debug)]
enum GoType {
    Struct(Vec<GoField>),
    /// A named type: what it stands for, and whether protobuf wraps it in a message of its own.
    Named(String, bool),
}

type GoTypes = BTreeMap<String, GoType>;

/// Collects the types and writes the file.
pub(crate) fn run() -> Result<()> {
    let mut dirs = BTreeMap::new();
    for (module, version) in MODULES {
        dirs.insert(*module, fetch(module, version)?);
    }
    let mut types = GoTypes::new();
    for package in PACKAGES {
        let (module, dir) = dirs
            .iter()
            .find(|(module, _)| package.starts_with(&format!("{module}/")))
            .with_context(|| format!("no module has {package}"))?;
        let folder = dir.join(&package[module.len() + 1..]);
        read_package(package, &folder, &mut types)
            .with_context(|| format!("failed to read {package}"))?;
    }
    let openapi = OpenApi::read(&fetch(KUBERNETES.0, KUBERNETES.1)?)?;
    let text = render(&types, &openapi)?;
    let target =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/schema/src/builtin/types.txt");
    std::fs::write(&target, text).with_context(|| format!("failed to write {}", target.display()))
}

fn fetch(module: &str, version: &str) -> Result<PathBuf> {
    let answer = Command::new("go")
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .current_dir(std::env::temp_dir())
        .output()
        .context("failed to run go")?;
    let answer: Value = serde_json::from_slice(&answer.stdout)
        .with_context(|| format!("go says no JSON about {module}"))?;
    match answer["Dir"].as_str() {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => bail!("failed to fetch {module}@{version}: {}", answer["Error"]),
    }
}

fn read_package(package: &str, folder: &Path, types: &mut GoTypes) -> Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let generated = name.starts_with("zz_") || name.contains("generated");
        let source = file.extension().is_some_and(|extension| extension == "go");
        if source && !name.ends_with("_test.go") && !generated {
            read_file(package, &std::fs::read_to_string(&file)?, types)?;
        }
    }
    Ok(())
}

fn read_file(package: &str, text: &str, types: &mut GoTypes) -> Result<()> {
    let import = Regex::new(r#"^\s*(?:import\s+)?(?:(\w+)\s+)?"(k8s\.io/[^"]+)"\s*$"#)?;
    let open = Regex::new(r"^type (\w+) struct ?\{")?;
    let named = Regex::new(r"^type (\w+) =?\s*([\w\[\]\.\*]+)\s*(?://.*)?$")?;
    let field = Regex::new(r"^\s+(?:(\w+)\s+)?([\*\[\]\w\.]+)\s+`([^`]*)`")?;
    let tag = Regex::new(r#"(\w+):"([^"]*)""#)?;
    let mut imports = BTreeMap::new();
    let mut current: Option<(String, Vec<GoField>)> = None;
    let mut wrapped = false;
    for line in text.lines() {
        if let Some(found) = import.captures(line) {
            let path = found[2].to_owned();
            let last = path.rsplit('/').next().unwrap_or_default().to_owned();
            imports.insert(
                found.get(1).map_or(last, |alias| alias.as_str().to_owned()),
                path,
            );
        } else if let Some((name, fields)) = &mut current {
            if line == "}" {
                types.insert(
                    format!("{package}.{name}"),
                    GoType::Struct(std::mem::take(fields)),
                );
                current = None;
            } else if let Some(found) = field.captures(line) {
                let tags: BTreeMap<_, _> = tag
                    .captures_iter(&found[3])
                    .map(|tag| (tag[1].to_owned(), tag[2].to_owned()))
                    .collect();
                let ty = qualify(&found[2], package, &imports);
                let mut json = tags.get("json").map_or("-", String::as_str).split(',');
                let name = json.next().unwrap_or_default().to_owned();
                let options: BTreeSet<_> = json.collect();
                if name == "-" {
                    continue;
                }
                let number = tags
                    .get("protobuf")
                    .and_then(|tag| tag.split(',').nth(1)?.parse().ok());
                fields.push(GoField {
                    embedded: found.get(1).is_none().then(|| last_segment(&ty).to_owned()),
                    ty,
                    inline: options.contains("inline"),
                    omit_empty: options.contains("omitempty"),
                    omit_zero: options.contains("omitzero"),
                    json: name,
                    number,
                });
            }
        } else if let Some(found) = open.captures(line) {
            current = Some((found[1].to_owned(), Vec::new()));
            if line.ends_with('}') {
                types.insert(
                    format!("{package}.{}", &found[1]),
                    GoType::Struct(Vec::new()),
                );
                current = None;
            }
        } else if let Some(found) = named.captures(line) {
            let target = qualify(&found[2], package, &imports);
            types.insert(
                format!("{package}.{}", &found[1]),
                GoType::Named(target, wrapped),
            );
        }
        if line.trim_start().starts_with("//") {
            wrapped |= line.contains("+protobuf.nullable=true");
        } else {
            wrapped = false;
        }
    }
    Ok(())
}

const SCALARS: &[&str] = &[
    "string", "bool", "int32", "int64", "uint32", "float64", "byte",
];

/// Resolves package aliases in a type expression.
fn qualify(ty: &str, package: &str, imports: &BTreeMap<String, String>) -> String {
    if let Some(rest) = ty.strip_prefix('*') {
        return format!("*{}", qualify(rest, package, imports));
    }
    if let Some(rest) = ty.strip_prefix("[]") {
        return format!("[]{}", qualify(rest, package, imports));
    }
    if let Some((key, value)) = ty
        .strip_prefix("map[")
        .and_then(|rest| rest.split_once(']'))
    {
        return format!("map[{key}]{}", qualify(value, package, imports));
    }
    match ty.split_once('.') {
        Some((alias, name)) => {
            format!(
                "{}.{name}",
                imports.get(alias).map_or(alias, String::as_str)
            )
        }
        None if SCALARS.contains(&ty) => ty.to_owned(),
        None => format!("{package}.{ty}"),
    }
}

fn last_segment(ty: &str) -> &str {
    ty.trim_start_matches('*')
        .rsplit('.')
        .next()
        .unwrap_or_default()
}

/// `k8s.io/api/core/v1.Pod` as OpenAPI names it.
fn definition(ty: &str) -> String {
    format!(
        "io.k8s.{}",
        ty.trim_start_matches("k8s.io/").replace('/', ".")
    )
}

/// `k8s.io/api/core/v1.Pod` as Go prints it (`v1.Pod`).
fn printed(ty: &str) -> &str {
    ty.rsplit('/').next().unwrap_or(ty)
}

/// What the OpenAPI documents know beyond the Go types.
struct OpenApi {
    /// Merge rules and required fields: definitions of the version 2 document.
    definitions: Value,
    /// Defaults: schemas of the version 3 documents.
    defaults: BTreeMap<(String, String), Value>,
}

impl OpenApi {
    fn read(root: &Path) -> Result<Self> {
        let folder = root.join("api/openapi-spec");
        let swagger: Value = serde_json::from_slice(&std::fs::read(folder.join("swagger.json"))?)?;
        let mut defaults = BTreeMap::new();
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("v3"))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        for file in files {
            let document: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
            let schemas = document["components"]["schemas"].as_object();
            for (name, schema) in schemas.into_iter().flatten() {
                let properties = schema["properties"].as_object();
                for (field, schema) in properties.into_iter().flatten() {
                    let Some(default) = schema.get("default") else {
                        continue;
                    };
                    let zero = ["\"\"", "{}", "0", "false"].contains(&default.to_string().as_str());
                    if !zero {
                        defaults.insert((name.clone(), field.clone()), default.clone());
                    }
                }
            }
        }
        Ok(Self {
            definitions: swagger["definitions"].clone(),
            defaults,
        })
    }

    fn attributes(&self, definition: &str, field: &str) -> String {
        let parent = &self.definitions[definition];
        let schema = &parent["properties"][field];
        let mut text = String::new();
        let required = parent["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|n| n == field));
        if required {
            text.push_str(" r");
        }
        if schema["x-kubernetes-map-type"] == "atomic" {
            text.push_str(" a");
        }
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => text.push_str(" l=set"),
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array();
                let keys: Vec<_> = keys
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let _infallible = write!(text, " l={}", keys.join(","));
            }
            _ => {}
        }
        if let Some(strategy) = schema["x-kubernetes-patch-strategy"].as_str() {
            let _infallible = write!(text, " p={strategy}");
        }
        if let Some(key) = schema["x-kubernetes-patch-merge-key"].as_str() {
            let _infallible = write!(text, " k={key}");
        }
        if let Some(default) = self
            .defaults
            .get(&(definition.to_owned(), field.to_owned()))
        {
            let _infallible = write!(text, " d={default}");
        }
        text
    }
}

/// A field with embedded structs flattened into its parent.
struct Flat {
    json: String,
    /// Field numbers from the outermost embedded message to the field itself.
    numbers: Vec<u32>,
    /// Go names of the embedded structs on the way.
    embedded: Vec<String>,
    ty: String,
    omit_empty: bool,
    omit_zero: bool,
}

fn flatten(
    types: &GoTypes,
    ty: &str,
    numbers: &[u32],
    embedded: &[String],
    out: &mut Vec<Flat>,
) -> Result<()> {
    let Some(GoType::Struct(fields)) = types.get(ty) else {
        bail!("{ty} is no struct")
    };
    for field in fields {
        let mut numbers = numbers.to_vec();
        numbers.extend(field.number);
        if field.inline || (field.json.is_empty() && field.embedded.is_some()) {
            let mut embedded = embedded.to_vec();
            embedded.extend(field.embedded.clone());
            let start = out.len();
            flatten(
                types,
                field.ty.trim_start_matches('*'),
                &numbers,
                &embedded,
                out,
            )?;
            if field.number.is_none() {
                // `TypeMeta` travels in the envelope.
                out[start..]
                    .iter_mut()
                    .for_each(|field| field.numbers.clear());
            }
        } else {
            if field.number.is_none() {
                numbers.clear();
            }
            out.push(Flat {
                json: field.json.clone(),
                numbers,
                embedded: embedded.to_vec(),
                ty: field.ty.clone(),
                omit_empty: field.omit_empty,
                omit_zero: field.omit_zero,
            });
        }
    }
    Ok(())
}

/// Writes a type expression in the notation of the table, and notes what it refers to.
fn expression(types: &GoTypes, ty: &str, seen: &mut BTreeSet<String>) -> Result<String> {
    if let Some(rest) = ty.strip_prefix('*') {
        return Ok(format!("*{}", expression(types, rest, seen)?));
    }
    if ty == "[]byte" {
        return Ok("bytes".to_owned());
    }
    if let Some(rest) = ty.strip_prefix("[]") {
        return Ok(format!("[]{}", expression(types, rest, seen)?));
    }
    if let Some((key, value)) = ty
        .strip_prefix("map[")
        .and_then(|rest| rest.split_once(']'))
    {
        return Ok(format!(
            "map[{}]{}",
            printed(key),
            expression(types, value, seen)?
        ));
    }
    if SCALARS.contains(&ty) {
        return Ok(ty.to_owned());
    }
    if SPECIAL.contains(&ty) {
        seen.insert(ty.to_owned());
        return Ok(format!("@{}", definition(ty)));
    }
    match types.get(ty) {
        Some(GoType::Struct(_)) => {
            seen.insert(ty.to_owned());
            Ok(format!("@{}", definition(ty)))
        }
        Some(GoType::Named(target, wrapped)) => {
            let mark = if *wrapped { '~' } else { '=' };
            Ok(format!(
                "{}{mark}{}",
                printed(ty),
                expression(types, target, seen)?
            ))
        }
        None => bail!("{ty} is not known"),
    }
}

fn roots(types: &GoTypes) -> BTreeSet<String> {
    let mut roots = BTreeSet::new();
    for (name, ty) in types {
        let GoType::Struct(fields) = ty else { continue };
        let last = last_segment(name);
        if name.starts_with("k8s.io/apimachinery/") {
            if META_ROOTS.contains(&last) {
                roots.insert(name.clone());
            }
            continue;
        }
        let top = fields
            .iter()
            .any(|field| field.inline && field.ty.ends_with(".TypeMeta"));
        let options = last.ends_with("Options");
        if top && !last.ends_with("List") && !options && !LEFT_OUT.contains(&last) {
            roots.insert(name.clone());
        }
    }
    roots
}

fn render(types: &GoTypes, openapi: &OpenApi) -> Result<String> {
    let mut todo = roots(types);
    let mut done: BTreeMap<String, String> = BTreeMap::new();
    while let Some(ty) = todo.pop_first() {
        let name = definition(&ty);
        if done.contains_key(&name) {
            continue;
        }
        let mut text = name.clone();
        if openapi.definitions[&name]["x-kubernetes-map-type"] == "atomic" {
            text.push_str("\ta");
        }
        text.push('\n');
        if !SPECIAL.contains(&ty.as_str()) {
            let mut fields = Vec::new();
            flatten(types, &ty, &[], &[], &mut fields)?;
            for field in fields {
                let numbers: Vec<String> = field.numbers.iter().map(u32::to_string).collect();
                let expression = expression(types, &field.ty, &mut todo)?;
                let mut flags = String::new();
                if field.omit_empty {
                    flags.push('o');
                }
                if field.omit_zero {
                    flags.push('z');
                }
                let attributes = openapi.attributes(&name, &field.json);
                let _infallible = writeln!(
                    text,
                    "\t{}\t{}\t{}\t{expression}\t{flags}{attributes}",
                    field.json,
                    numbers.join("."),
                    field.embedded.join("."),
                );
            }
        }
        done.insert(name, text);
    }
    Ok(done.into_values().collect())
}
