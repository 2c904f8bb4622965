//! From rules as written to programs. CEL has no types here, so what a schema makes certain is
//! checked by a walk over the expression: names that nothing declares and fields that no schema
//! knows are refused when the definition is written, not when an object is.

use std::collections::{BTreeSet, HashMap};

use kube_cel::cel::Program;
use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr, operators};
use serde_json::{Value, json};

use super::{Rule, convert::means};
use crate::field_error::FieldError;
use crate::types::{ListKind, Node, Shape, TypeId};

/// A rule longer than this is refused: the parser of CEL is recursive.
const MAX_RULE_BYTES: usize = 16_384;

/// Expressions nest at most this deep (apiserver: the recursion limit of cel-go's parser).
const MAX_DEPTH: usize = 250;

#[derive(Default)]
pub(super) struct Compiler {
    pub(super) nodes: HashMap<TypeId, Vec<Rule>>,
    pub(super) above: BTreeSet<TypeId>,
    pub(super) errors: Vec<FieldError>,
}

impl Compiler {
    /// Compiles the rules of a type and of all below; `uncorrelatable` is the path above which old
    /// and new values cannot be told to belong together. Answers whether there are any.
    pub(super) fn visit(
        &mut self,
        path: &str,
        node: Node<'_>,
        uncorrelatable: Option<&str>,
    ) -> bool {
        let mut any = false;
        match node.shape() {
            Shape::Struct { fields, atomic, .. } => {
                let uncorrelatable = uncorrelatable.or(atomic.then_some(path));
                for (name, field) in fields {
                    let at = format!("{path}.properties[{name}]");
                    any |= self.visit(&at, node.at(field.ty), uncorrelatable);
                }
            }
            Shape::Map { value, .. } => {
                let at = format!("{path}.additionalProperties");
                any |= self.visit(&at, node.at(*value), uncorrelatable);
            }
            Shape::List { item, kind } => {
                let free = !matches!(kind, ListKind::Map(_));
                let uncorrelatable = uncorrelatable.or(free.then_some(path));
                any |= self.visit(&format!("{path}.items"), node.at(*item), uncorrelatable);
            }
            _ => (),
        }
        let written = node.checks().map_or(&[][..], |checks| &checks.rules);
        let mut rules = Vec::new();
        for (i, rule) in written.iter().enumerate() {
            let at = format!("{path}.x-kubernetes-validations[{i}]");
            match compile(&at, rule, node, uncorrelatable) {
                Ok(rule) => rules.push(rule),
                Err(error) => self.errors.push(error),
            }
        }
        if !rules.is_empty() {
            any = true;
            self.nodes.insert(node.id(), rules);
        }
        if any {
            self.above.insert(node.id());
        }
        any
    }
}

fn compile(
    path: &str,
    rule: &Value,
    node: Node<'_>,
    uncorrelatable: Option<&str>,
) -> Result<Rule, FieldError> {
    let text = |key: &str| {
        rule.get(key)
            .and_then(Value::as_str)
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let source = text("rule").unwrap_or_default();
    let failed = |key: &str, why: String| {
        FieldError::invalid(
            format!("{path}.{key}"),
            internal(rule),
            format!("compilation failed: {why}"),
        )
    };
    let program = self::program(source, node).map_err(|why| failed("rule", why))?;
    let message_program = text("messageExpression")
        .map(|source| self::program(source, node).map_err(|why| failed("messageExpression", why)))
        .transpose()?;
    let transition = program.references().has_variable("oldSelf");
    let optional_old_self = rule.get("optionalOldSelf").and_then(Value::as_bool);
    if let (true, Some(above)) = (transition, uncorrelatable) {
        return Err(FieldError::invalid(
            format!("{path}.rule"),
            source,
            format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {above}"
            ),
        ));
    }
    if let (false, Some(value)) = (transition, optional_old_self) {
        let detail = "may not be set if oldSelf is not used in rule";
        return Err(FieldError::invalid(
            format!("{path}.optionalOldSelf"),
            value,
            detail,
        ));
    }
    let loops = loops(program.expression());
    let message_depth = message_program
        .as_ref()
        .map_or(0, |it| depth(it.expression()));
    let depth = depth(program.expression()).max(message_depth);
    Ok(Rule {
        source: source.to_owned(),
        message: text("message").map(ToOwned::to_owned),
        reason: text("reason").map(ToOwned::to_owned),
        // Whether the path is valid was checked with the definition.
        field_path: text("fieldPath").map(|it| it.trim_start_matches('.').to_owned()),
        program,
        message_program,
        transition,
        optional_old_self: optional_old_self.unwrap_or_default(),
        loops,
        depth,
    })
}

/// A rule in the notation of upstream's errors.
fn internal(rule: &Value) -> Value {
    let text = |key: &str| rule.get(key).cloned().unwrap_or_else(|| json!(""));
    let optional = |key: &str| rule.get(key).cloned().unwrap_or_default();
    json!({
        "Rule": text("rule"),
        "Message": text("message"),
        "MessageExpression": text("messageExpression"),
        "Reason": optional("reason"),
        "FieldPath": text("fieldPath"),
        "OptionalOldSelf": optional("optionalOldSelf"),
    })
}

fn program(source: &str, node: Node<'_>) -> Result<Program, String> {
    expression(source, &["self", "oldSelf"], Some(node))
}

/// Compiles an expression that may name these variables; `node` is the type of `self`.
pub(super) fn expression(
    source: &str,
    variables: &[&str],
    node: Option<Node<'_>>,
) -> Result<Program, String> {
    if source.len() > MAX_RULE_BYTES {
        return Err(format!(
            "ERROR: <input>: the expression is longer than {MAX_RULE_BYTES} bytes"
        ));
    }
    let program = parse(source)?;
    let mut names = Names {
        node,
        variables,
        scope: Vec::new(),
        wrong: Vec::new(),
    };
    names.visit(program.expression());
    if names.wrong.is_empty() {
        return Ok(program);
    }
    let lines: Vec<String> = names
        .wrong
        .iter()
        .map(|(at, wrong)| pointed(source, at, wrong))
        .collect();
    Err(lines.join("\n"))
}

/// An error with the line that it is about. Expressions do not tell where they stand, so the text
/// is looked up.
fn pointed(source: &str, at: &str, wrong: &str) -> String {
    let place = source.find(at).unwrap_or_default();
    let before = source.get(..place).unwrap_or_default();
    let (line, column) = (
        before.matches('\n').count(),
        before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count(),
    );
    let text = source.lines().nth(line).unwrap_or_default();
    let dots = ".".repeat(column);
    format!(
        "ERROR: <input>:{}:{}: {wrong}\n | {text}\n | {dots}^",
        line + 1,
        column + 1
    )
}

/// Parses where there is room; what is too deep is dropped there, too.
fn parse(source: &str) -> Result<Program, String> {
    let gave_up = || "ERROR: <input>: the expression is too complex".to_owned();
    super::room::with_room(|| {
        let program = Program::compile(source).map_err(|error| error.to_string())?;
        if depth(program.expression()) > MAX_DEPTH {
            Err(gave_up())
        } else {
            Ok(program)
        }
    })
    .unwrap_or_else(|| Err(gave_up()))
}

/// How deep an expression nests.
pub(super) fn depth(expr: &IdedExpr) -> usize {
    let mut deepest = 0;
    children(expr, &mut |child| deepest = deepest.max(depth(child)));
    deepest + 1
}

/// How deep loops nest.
fn loops(expr: &IdedExpr) -> u32 {
    let own = u32::from(matches!(expr.expr, Expr::Comprehension(_)));
    let mut deepest = 0;
    children(expr, &mut |child| deepest = deepest.max(loops(child)));
    own + deepest
}

fn children(expr: &IdedExpr, visit: &mut dyn FnMut(&IdedExpr)) {
    match &expr.expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| visit(target));
            call.args.iter().for_each(visit);
        }
        Expr::Comprehension(it) => {
            [
                &it.iter_range,
                &it.accu_init,
                &it.loop_cond,
                &it.loop_step,
                &it.result,
            ]
            .into_iter()
            .for_each(visit);
        }
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Map(map) => map
            .entries
            .iter()
            .for_each(|entry| self::entry(&entry.expr, visit)),
        Expr::Select(select) => visit(&select.operand),
        Expr::Struct(it) => it
            .entries
            .iter()
            .for_each(|entry| self::entry(&entry.expr, visit)),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => (),
    }
}

fn entry(entry: &EntryExpr, visit: &mut dyn FnMut(&IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => visit(&field.value),
        EntryExpr::MapEntry(entry) => {
            visit(&entry.key);
            visit(&entry.value);
        }
    }
}

/// The type of CEL that has no fields.
fn scalar(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::String { format } if format.is_empty() => Some("string"),
        Shape::Integer { .. } => Some("int"),
        Shape::Number => Some("double"),
        Shape::Boolean => Some("bool"),
        _ => None,
    }
}

/// Names that are no variables but types or prefixes of functions.
const KNOWN: [&str; 20] = [
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "list",
    "map",
    "type",
    "null_type",
    "google",
    "optional",
    "math",
    "sets",
    "strings",
    "base64",
    "jsonpatch",
    "format",
    "cel",
    "semver",
];

struct Names<'a> {
    /// The type of `self`, where there is one.
    node: Option<Node<'a>>,
    variables: &'a [&'a str],
    /// Variables of the loops around.
    scope: Vec<String>,
    /// A text near the place, and what is wrong there.
    wrong: Vec<(String, String)>,
}

impl<'a> Names<'a> {
    fn visit(&mut self, expr: &IdedExpr) {
        match &expr.expr {
            Expr::Ident(name) => {
                let name_it = &name.as_str();
                let declared = KNOWN.contains(name_it)
                    || self.variables.contains(name_it)
                    || self.scope.iter().any(|it| it == name);
                if !declared && !name.starts_with('@') {
                    let wrong = format!("undeclared reference to '{name}' (in container '')");
                    let known = self.wrong.iter().any(|(_, it)| *it == wrong);
                    self.wrong.extend((!known).then(|| (name.clone(), wrong)));
                }
            }
            Expr::Comprehension(it) => {
                self.visit(&it.iter_range);
                self.visit(&it.accu_init);
                let depth = self.scope.len();
                self.scope
                    .extend([it.accu_var.clone(), it.iter_var.clone()]);
                self.scope.extend(it.iter_var2.clone());
                for expr in [&it.loop_cond, &it.loop_step, &it.result] {
                    self.visit(expr);
                }
                self.scope.truncate(depth);
            }
            Expr::Select(select) => {
                self.visit(&select.operand);
                let wrong = match self.known(&select.operand).map(Node::shape) {
                    Some(Shape::Struct { fields, .. }) => {
                        let known = fields.keys().any(|name| means(&select.field, name));
                        (!known).then(|| format!("undefined field '{}'", select.field))
                    }
                    Some(shape) => scalar(shape)
                        .map(|ty| format!("type '{ty}' does not support field selection")),
                    None => None,
                };
                self.wrong
                    .extend(wrong.map(|wrong| (format!(".{}", select.field), wrong)));
            }
            _ => children(expr, &mut |child| self.visit(child)),
        }
    }

    /// The type of an expression, where the schema makes it certain.
    fn known(&self, expr: &IdedExpr) -> Option<Node<'a>> {
        match &expr.expr {
            Expr::Ident(name) if name == "self" => self.node,
            Expr::Select(select) if !select.test => {
                let operand = self.known(&select.operand)?;
                match operand.shape() {
                    Shape::Struct { fields, .. } => {
                        let (_, field) = fields.iter().find(|(it, _)| means(&select.field, it))?;
                        Some(operand.at(field.ty))
                    }
                    Shape::Map { value, .. } => Some(operand.at(*value)),
                    _ => None,
                }
            }
            Expr::Call(call) if call.func_name == operators::INDEX => {
                let operand = self.known(call.args.first()?)?;
                match operand.shape() {
                    Shape::List { item, .. } => Some(operand.at(*item)),
                    Shape::Map { value, .. } => Some(operand.at(*value)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
