//! `spec` of a definition, version by version.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::{Scale, Version, names, text};
use crate::cel::Rules;
use crate::field_error::FieldError;
use crate::jsonpath::JsonPath;
use crate::structural;
use crate::table::Column;
use crate::types::Schema;

/// A version has at most this many selectable fields.
const MAX_SELECTABLE: usize = 8;

/// A text of a deprecation is at most this long.
const MAX_WARNING_BYTES: usize = 256;

/// Keywords at the root of a schema whose `status` is a subresource.
const AT_ROOT: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Compiles every version; the second answer is everything that is wrong.
pub(super) fn check(spec: &Value) -> (Vec<Arc<Version>>, Vec<FieldError>) {
    let mut errors = Vec::new();
    names::group(&text(spec, "group"), &mut errors);
    match &*text(spec, "scope") {
        "Cluster" | "Namespaced" => (),
        "" => errors.push(FieldError::required("spec.scope", "")),
        other => {
            let known = ["Cluster", "Namespaced"];
            errors.push(FieldError::not_supported("spec.scope", other, &known));
        }
    }
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    for (i, version) in versions.iter().enumerate() {
        if version["schema"]["openAPIV3Schema"].is_null() {
            let at = format!("spec.versions[{i}].schema.openAPIV3Schema");
            errors.push(FieldError::required(at, ""));
        }
    }
    let places = Places::of(versions);
    let mut compiled = Vec::new();
    let mut own = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{i}]");
        if let Some(why) = names::dns_1035_label(&text(version, "name")) {
            own.push(FieldError::invalid(
                format!("{at}.name"),
                version["name"].clone(),
                why,
            ));
        }
        compiled.extend(self::version(&places, i, version, &mut own).map(Arc::new));
    }
    errors.extend(own);
    unique(versions, &mut errors);
    names::names("spec.names", &spec["names"], &mut errors);
    conversion(&spec["conversion"], &mut errors);
    if spec["preserveUnknownFields"] == true {
        errors.push(FieldError::invalid(
            "spec.preserveUnknownFields",
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    (compiled, errors)
}

/// Where things stand in errors: what all versions have in common is told once, at the top.
struct Places {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Places {
    fn of(versions: &[Value]) -> Self {
        let common = |key: &str| {
            versions.first().is_some_and(|first| {
                let set = |it: &Value| !it.is_null() && it != &Value::Array(Vec::new());
                set(&first[key]) && versions.iter().all(|version| version[key] == first[key])
            })
        };
        Self {
            schema: common("schema"),
            subresources: common("subresources"),
            columns: common("additionalPrinterColumns"),
            selectable: common("selectableFields"),
        }
    }
}

fn unique(versions: &[Value], errors: &mut Vec<FieldError>) {
    let names: BTreeSet<&str> = versions
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    let all = || Value::Array(versions.to_vec());
    if names.len() < versions.len() {
        let detail = "must contain unique version names";
        errors.push(FieldError::invalid("spec.versions", all(), detail));
    }
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", all(), detail));
    }
}

fn version(
    places: &Places,
    i: usize,
    version: &Value,
    errors: &mut Vec<FieldError>,
) -> Option<Version> {
    let at = format!("spec.versions[{i}]");
    let before = errors.len();
    // What stands at the top is told for the first version only.
    let place = |common: bool, own: &str, top: &str| match (common, i) {
        (false, _) => Some(format!("{at}.{own}")),
        (true, 0) => Some(format!("spec.{top}")),
        (true, _) => None,
    };
    let mut tell = |place: Option<String>, check: &dyn Fn(&str, &mut Vec<FieldError>)| {
        let mut found = Vec::new();
        check(place.as_deref().unwrap_or_default(), &mut found);
        errors.extend(found.into_iter().filter(|_| place.is_some()));
    };
    let warning = version["deprecationWarning"].as_str();
    tell(Some(at.clone()), &|at, errors| {
        deprecation(at, warning, version["deprecated"] == true, errors);
    });
    let written = &version["schema"]["openAPIV3Schema"];
    let status = !version["subresources"]["status"].is_null();
    let schema_place = place(places.schema, "schema", "validation");
    let mut schema = None;
    if !written.is_null() {
        let at = schema_place.clone().unwrap_or_default();
        let mut found = Vec::new();
        schema = compile(&at, written, status, &mut found);
        tell(schema_place, &|_, errors| {
            errors.extend(found.iter().cloned());
        });
    }
    tell(
        place(places.subresources, "subresources", "subresources"),
        &|at, errors| {
            subresources(at, &version["subresources"]["scale"], errors);
        },
    );
    let key = "additionalPrinterColumns";
    tell(place(places.columns, key, key), &|at, errors| {
        for (i, column) in list(version, key).iter().enumerate() {
            self::column(&format!("{at}[{i}]"), column, errors);
        }
    });
    tell(
        place(places.selectable, "selectableFields", "selectableFields"),
        &|at, errors| {
            selectable(at, version, written, errors);
        },
    );
    let (schema, rules) = schema.filter(|_| errors.len() == before)?;
    let scale = &version["subresources"]["scale"];
    Some(Version {
        name: text(version, "name"),
        served: version["served"] == true,
        storage: version["storage"] == true,
        deprecated: version["deprecated"] == true,
        deprecation_warning: warning.map(ToOwned::to_owned),
        schema,
        rules,
        status,
        scale: (!scale.is_null()).then(|| Scale {
            spec_replicas: text(scale, "specReplicasPath"),
            status_replicas: text(scale, "statusReplicasPath"),
            label_selector: Some(text(scale, "labelSelectorPath")).filter(|it| !it.is_empty()),
        }),
        columns: list(version, key).iter().map(compiled_column).collect(),
        selectable: list(version, "selectableFields")
            .iter()
            .map(|field| text(field, "jsonPath"))
            .collect(),
        preserve_unknown: written["x-kubernetes-preserve-unknown-fields"] == true,
    })
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn deprecation(at: &str, warning: Option<&str>, deprecated: bool, errors: &mut Vec<FieldError>) {
    let Some(warning) = warning else { return };
    let mut wrong = Vec::new();
    if !deprecated {
        wrong.push("can only be set for deprecated versions".to_owned());
    } else if warning.is_empty() {
        wrong.push("must not be an empty string".to_owned());
    } else if warning.len() > MAX_WARNING_BYTES {
        wrong.push(format!("must be <= {MAX_WARNING_BYTES} characters long"));
    }
    if let Some(i) = warning.find(char::is_control).filter(|_| deprecated) {
        wrong.push(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        ));
    }
    let at = format!("{at}.deprecationWarning");
    errors.extend(
        wrong
            .into_iter()
            .map(|why| FieldError::invalid(&at, warning, why)),
    );
}

fn compile(
    at: &str,
    written: &Value,
    status: bool,
    errors: &mut Vec<FieldError>,
) -> Option<(Schema, Rules)> {
    let at = format!("{at}.openAPIV3Schema");
    if status {
        let strange = |key: &str| !AT_ROOT.contains(&key);
        let keys = written.as_object().into_iter().flatten();
        if keys
            .filter(|(_, value)| !value.is_null())
            .any(|(key, _)| strange(key))
        {
            let allowed: Vec<String> = AT_ROOT.iter().map(|key| go_name(key)).collect();
            errors.push(FieldError::invalid(&at, written.clone(), format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                allowed.join(" ")
            )));
        }
    }
    let schema = structural::compile(&at, written)
        .map_err(|found| errors.extend(found))
        .ok()?;
    let rules = Rules::compile(&at, &schema)
        .map_err(|found| errors.extend(found))
        .ok()?;
    Some((schema, rules))
}

/// The name of a keyword in upstream's types.
fn go_name(key: &str) -> String {
    match key {
        "x-kubernetes-preserve-unknown-fields" => "XPreserveUnknownFields".to_owned(),
        "x-kubernetes-validations" => "XValidations".to_owned(),
        key => {
            let mut chars = key.chars();
            chars
                .next()
                .into_iter()
                .flat_map(char::to_uppercase)
                .chain(chars)
                .collect()
        }
    }
}

fn subresources(at: &str, scale: &Value, errors: &mut Vec<FieldError>) {
    if scale.is_null() {
        return;
    }
    let paths = [
        (
            "specReplicasPath",
            &[".spec."][..],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            &[".status."][..],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            "should be a json path under either .spec or .status",
        ),
    ];
    for (key, prefixes, detail) in paths {
        let (at, path) = (format!("{at}.scale.{key}"), text(scale, key));
        if path.is_empty() {
            if key != "labelSelectorPath" {
                errors.push(FieldError::required(at, ""));
            }
        } else if let Some(why) = simple_path(&path) {
            errors.push(FieldError::invalid(at, path, why));
        } else if !prefixes.iter().any(|prefix| path.starts_with(prefix)) {
            errors.push(FieldError::invalid(at, path, detail));
        }
    }
}

fn simple_path(path: &str) -> Option<&'static str> {
    (!path.starts_with('.')).then_some("must be a simple json path starting with .")
}

fn column(at: &str, column: &Value, errors: &mut Vec<FieldError>) {
    if text(column, "name").is_empty() {
        errors.push(FieldError::required(format!("{at}.name"), ""));
    }
    let kind = text(column, "type");
    let known = ["boolean", "date", "integer", "number", "string"];
    let detail = format!("must be one of {}", known.join(","));
    if kind.is_empty() {
        errors.push(FieldError::required(format!("{at}.type"), detail));
    } else if !known.contains(&&*kind) {
        errors.push(FieldError::invalid(format!("{at}.type"), kind, detail));
    }
    let format = text(column, "format");
    let known = [
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "password",
    ];
    if !format.is_empty() && !known.contains(&&*format) {
        let detail = format!("must be one of {}", known.join(","));
        errors.push(FieldError::invalid(format!("{at}.format"), format, detail));
    }
    let (at, path) = (format!("{at}.JSONPath"), text(column, "jsonPath"));
    if path.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if let Some(why) = simple_path(&path) {
        errors.push(FieldError::invalid(at, path, why));
    }
}

/// A path that nothing can follow leads nowhere: the column stays empty, as upstream's do.
fn compiled_column(column: &Value) -> Column {
    Column {
        name: text(column, "name"),
        kind: text(column, "type"),
        format: text(column, "format"),
        description: text(column, "description"),
        priority: column["priority"]
            .as_i64()
            .and_then(|it| it.try_into().ok())
            .unwrap_or_default(),
        path: JsonPath::compile(&text(column, "jsonPath")).ok(),
    }
}

fn selectable(at: &str, version: &Value, schema: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, field) in list(version, "selectableFields").iter().enumerate() {
        let (at, path) = (format!("{at}[{i}].jsonPath"), text(field, "jsonPath"));
        if path.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        let followed = if path.contains('[') {
            Err("array notation is not allowed".to_owned())
        } else {
            crate::cel::field_path(schema, &path)
        };
        let (shown, found) = match followed {
            Ok(followed) => followed,
            Err(why) => {
                errors.push(FieldError::invalid(
                    at,
                    path,
                    format!("is an invalid path: {why}"),
                ));
                continue;
            }
        };
        if shown.split('.').next() == Some("metadata") {
            let detail = "must not point to fields in metadata";
            errors.push(FieldError::invalid(&at, path.as_str(), detail));
        }
        if !matches!(&*text(found, "type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, path.as_str(), detail));
        }
        if !seen.insert(shown) {
            errors.push(FieldError::duplicate(at, path));
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::with_value(
            crate::field_error::Kind::TooMany,
            at,
            seen.len().into(),
            format!("must have at most {MAX_SELECTABLE} items"),
        ));
    }
}

fn conversion(conversion: &Value, errors: &mut Vec<FieldError>) {
    if conversion.is_null() {
        return;
    }
    let at = "spec.conversion";
    let webhook = &conversion["webhook"];
    match &*text(conversion, "strategy") {
        "None" => {
            if !webhook["clientConfig"].is_null() {
                let at = format!("{at}.webhookClientConfig");
                let detail = "should not be set when strategy is not set to Webhook";
                errors.push(FieldError::forbidden(at, detail));
            }
        }
        "Webhook" => {
            if webhook["clientConfig"].is_null() {
                let at = format!("{at}.webhookClientConfig");
                errors.push(FieldError::required(
                    at,
                    "required when strategy is set to Webhook",
                ));
            }
            if list(webhook, "conversionReviewVersions").is_empty() {
                errors.push(FieldError::required(
                    format!("{at}.conversionReviewVersions"),
                    "",
                ));
            }
        }
        "" => errors.push(FieldError::required(format!("{at}.strategy"), "")),
        other => {
            let known = ["None", "Webhook"];
            errors.push(FieldError::not_supported(
                format!("{at}.strategy"),
                other,
                &known,
            ));
        }
    }
}
