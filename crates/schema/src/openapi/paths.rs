//! What can be asked of a kind, and how.

use serde_json::{Map, Value, json};

use super::emit::Flavour;
use super::{Described, meta};

/// A query parameter: name, type, what it is for.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = (
    "pretty",
    "string",
    "Whether the answer is printed for people.",
);
const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "With `All` everything is checked and nothing is persisted.",
);
const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "The name of who makes the change, at most 128 characters; required to apply.",
);
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What happens to unknown and duplicate fields: `Ignore`, `Warn` (the default) or `Strict`.",
);
const FORCE: Parameter = (
    "force",
    "boolean",
    "Whether an apply takes over fields that others manage.",
);
const RESOURCE_VERSION: Parameter = (
    "resourceVersion",
    "string",
    "The state from which the answer may be taken.",
);

/// Parameters of lists and of deletions of collections.
const LIST: [Parameter; 9] = [
    (
        "allowWatchBookmarks",
        "boolean",
        "Whether a watch may send bookmarks.",
    ),
    ("continue", "string", "The token of the page before."),
    ("fieldSelector", "string", "Which fields objects must have."),
    ("labelSelector", "string", "Which labels objects must have."),
    ("limit", "integer", "The most objects of one page."),
    RESOURCE_VERSION,
    (
        "resourceVersionMatch",
        "string",
        "`Exact` or `NotOlderThan`.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Whether a watch begins with the objects that are there.",
    ),
    ("timeoutSeconds", "integer", "How long a call may take."),
];
const WATCH: Parameter = (
    "watch",
    "boolean",
    "Whether changes follow, as they happen.",
);
const DELETE: [Parameter; 3] = [
    (
        "gracePeriodSeconds",
        "integer",
        "How long the object may take to end.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Use `propagationPolicy` instead.",
    ),
    (
        "propagationPolicy",
        "string",
        "`Orphan`, `Background` or `Foreground`.",
    ),
];

/// What is exchanged: an object, a list of them, or something of the API machinery.
#[derive(Clone, Copy)]
enum Body {
    Object,
    List,
    Scale,
    Status,
    DeleteOptions,
    Patch,
}

/// One operation.
struct Operation<'a> {
    verb: &'a str,
    /// `x-kubernetes-action`.
    action: &'a str,
    /// What follows the kind in the id: `Status`, `Scale`, `ForAllNamespaces`.
    suffix: &'a str,
    collection: bool,
    parameters: Vec<Parameter>,
    request: Option<Body>,
    response: Body,
    codes: &'a [&'a str],
}

/// Adds the paths of a kind.
pub(super) fn add(kind: &Described<'_>, flavour: Flavour, paths: &mut Map<String, Value>) {
    let base = match kind.group {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    let scope = if kind.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{base}{scope}/{}", kind.plural);
    let writer = Writer { kind, flavour };
    let does = |verb: &str| kind.verbs.contains(&verb);
    let mut put = |path: &str, operations: Vec<(&str, Operation<'_>)>| {
        if !operations.is_empty() {
            paths.insert(path.to_owned(), writer.item(path, operations));
        }
    };
    let mut many = Vec::new();
    if does("list") {
        many.push(("get", list("")));
    }
    if does("create") {
        many.push(("post", create()));
    }
    if does("deletecollection") {
        many.push(("delete", delete_collection()));
    }
    put(&collection, many);
    if kind.namespaced && does("list") {
        let path = format!("{base}/{}", kind.plural);
        put(&path, vec![("get", list("ForAllNamespaces"))]);
    }
    let one = format!("{collection}/{{name}}");
    put(&one, single(kind, "", Body::Object, does("delete")));
    if kind.status {
        put(
            &format!("{one}/status"),
            single(kind, "Status", Body::Object, false),
        );
    }
    if kind.scale {
        put(
            &format!("{one}/scale"),
            single(kind, "Scale", Body::Scale, false),
        );
    }
}

fn list(suffix: &str) -> Operation<'_> {
    Operation {
        verb: "list",
        action: "list",
        suffix,
        collection: false,
        parameters: [&LIST[..], &[WATCH]].concat(),
        request: None,
        response: Body::List,
        codes: &["200"],
    }
}

fn create() -> Operation<'static> {
    Operation {
        verb: "create",
        action: "post",
        suffix: "",
        collection: false,
        parameters: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
        request: Some(Body::Object),
        response: Body::Object,
        codes: &["200", "201", "202"],
    }
}

fn delete_collection() -> Operation<'static> {
    Operation {
        verb: "delete",
        action: "deletecollection",
        suffix: "",
        collection: true,
        // All but the one that only watches understand.
        parameters: [&LIST[1..], &DELETE, &[DRY_RUN]].concat(),
        request: Some(Body::DeleteOptions),
        response: Body::Status,
        codes: &["200"],
    }
}

/// What can be asked of one object or of a subresource of it.
fn single<'a>(
    kind: &Described<'_>,
    suffix: &'a str,
    body: Body,
    deletes: bool,
) -> Vec<(&'static str, Operation<'a>)> {
    let does = |verb: &str| kind.verbs.contains(&verb);
    let operation = |verb, action, parameters, request, codes| Operation {
        verb,
        action,
        suffix,
        collection: false,
        parameters,
        request,
        response: body,
        codes,
    };
    let mut out = Vec::new();
    if does("get") {
        // Real servers say it of custom kinds alone.
        let parameters = match kind.definition {
            Some(_) => Vec::new(),
            None => vec![RESOURCE_VERSION],
        };
        out.push((
            "get",
            operation("read", "get", parameters, None, &["200"][..]),
        ));
    }
    let write = vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
    if does("update") {
        let codes = &["200", "201"][..];
        out.push((
            "put",
            operation("replace", "put", write.clone(), Some(body), codes),
        ));
    }
    if does("patch") {
        let parameters = [&write[..], &[FORCE]].concat();
        let codes = if kind.definition.is_some() {
            &["200", "201"][..]
        } else {
            &["200"]
        };
        let request = Some(Body::Patch);
        out.push((
            "patch",
            operation("patch", "patch", parameters, request, codes),
        ));
    }
    if deletes {
        let parameters = [&[DRY_RUN], &DELETE[..]].concat();
        let request = Some(Body::DeleteOptions);
        let mut delete = operation("delete", "delete", parameters, request, &["200", "202"][..]);
        delete.response = Body::Status;
        out.push(("delete", delete));
    }
    out
}

struct Writer<'a> {
    kind: &'a Described<'a>,
    flavour: Flavour,
}

impl Writer<'_> {
    /// Everything that can be asked at a path.
    fn item(&self, path: &str, operations: Vec<(&str, Operation<'_>)>) -> Value {
        let mut parameters = Vec::new();
        for name in ["name", "namespace"] {
            if path.contains(&format!("{{{name}}}")) {
                parameters.push(self.parameter("path", (name, "string", name)));
            }
        }
        parameters.push(self.parameter("query", PRETTY));
        let mut item = Map::new();
        for (method, operation) in operations {
            item.insert(method.to_owned(), self.operation(&operation));
        }
        item.insert("parameters".to_owned(), Value::Array(parameters));
        Value::Object(item)
    }

    fn parameter(&self, place: &str, (name, ty, description): Parameter) -> Value {
        let mut out = json!({"name": name, "in": place, "description": description});
        if place == "path" {
            out["required"] = json!(true);
        }
        match self.flavour {
            Flavour::V3 => out["schema"] = json!({"type": ty, "uniqueItems": true}),
            Flavour::V2 => {
                out["type"] = json!(ty);
                out["uniqueItems"] = json!(true);
            }
        }
        out
    }

    fn operation(&self, operation: &Operation<'_>) -> Value {
        let kind = self.kind;
        let mut parameters: Vec<Value> = operation
            .parameters
            .iter()
            .map(|it| self.parameter("query", *it))
            .collect();
        let gvk = match operation.response {
            // Custom kinds speak of themselves.
            Body::Scale if kind.definition.is_some() => {
                json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
            }
            _ => kind.gvk(kind.kind),
        };
        let mut out = json!({
            "tags": [format!("{}_{}", lower_first(&group_name(kind.group)), kind.version)],
            "description": format!("{} {}", operation.action, kind.kind),
            "operationId": self.id(operation),
            "responses": self.responses(operation),
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": gvk,
        });
        if let Some(body) = operation.request {
            let required = !matches!(body, Body::DeleteOptions);
            let types = self.content_types(body);
            match self.flavour {
                Flavour::V3 => {
                    out["requestBody"] =
                        json!({"content": self.content(body, &types), "required": required});
                }
                Flavour::V2 => {
                    parameters.push(json!({
                        "name": "body", "in": "body", "required": required,
                        "schema": self.schema(body),
                    }));
                    out["consumes"] = json!(types);
                }
            }
        }
        if self.flavour == Flavour::V2 {
            out["produces"] = json!(self.content_types(Body::Object));
            out["schemes"] = json!(["https"]);
        }
        out["parameters"] = Value::Array(parameters);
        out
    }

    fn id(&self, operation: &Operation<'_>) -> String {
        let kind = self.kind;
        let namespaced = kind.namespaced && operation.suffix != "ForAllNamespaces";
        [
            operation.verb,
            &group_name(kind.group),
            &upper_first(kind.version),
            if operation.collection {
                "Collection"
            } else {
                ""
            },
            if namespaced { "Namespaced" } else { "" },
            kind.kind,
            operation.suffix,
        ]
        .concat()
    }

    fn responses(&self, operation: &Operation<'_>) -> Value {
        let mut out = Map::new();
        for code in operation.codes {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let mut response = json!({"description": description});
            match self.flavour {
                Flavour::V3 => {
                    let types = self.content_types(Body::Object);
                    response["content"] = self.content(operation.response, &types);
                }
                Flavour::V2 => response["schema"] = self.schema(operation.response),
            }
            out.insert((*code).to_owned(), response);
        }
        out.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(out)
    }

    fn content(&self, body: Body, types: &[&str]) -> Value {
        let entry = |ty: &&str| ((*ty).to_owned(), json!({"schema": self.schema(body)}));
        Value::Object(types.iter().map(entry).collect())
    }

    /// Patches of built-in kinds may be strategic.
    fn content_types(&self, body: Body) -> Vec<&'static str> {
        match body {
            Body::Patch => {
                let strategic = "application/strategic-merge-patch+json";
                let mut types = vec![
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/apply-patch+yaml",
                ];
                types.extend(self.kind.definition.map(|_| strategic));
                types
            }
            _ => vec!["application/json", "application/yaml"],
        }
    }

    fn schema(&self, body: Body) -> Value {
        match body {
            Body::Object => self.flavour.reference(&self.kind.definition_name()),
            Body::List => self.flavour.reference(&self.kind.list_name()),
            Body::Scale => self.flavour.reference(meta::SCALE),
            Body::Status => meta::reference(self.flavour, "Status"),
            Body::DeleteOptions => meta::reference(self.flavour, "DeleteOptions"),
            Body::Patch => meta::reference(self.flavour, "Patch"),
        }
    }
}

/// `s1.example.io` becomes `S1ExampleIo`, no group becomes `Core`.
fn group_name(group: &str) -> String {
    match group {
        "" => "Core".to_owned(),
        group => group.split(['.', '-']).map(upper_first).collect(),
    }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(chars)
        .collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .into_iter()
        .flat_map(char::to_lowercase)
        .chain(chars)
        .collect()
}
