//! The functions of expressions on clusters (sdk-go: pkg/cel/library).

use std::sync::Arc;

use kube_cel::cel::extractors::This;
use kube_cel::cel::objects::Key;
use kube_cel::cel::{Context, ExecutionError, Value as Cel};

use super::convert;

/// The member of a cluster in which its scores stand for `scores`: by the name of the AddOnPlacementScore, lists of `name` and `value`.
/// No expression can name it.
pub const SCORES: &str = "@scores";

pub(super) fn add(context: &mut Context<'static>) {
    context.add_function("scores", scores);
    context.add_function("parseJSON", parse_json);
}

#[expect(clippy::rc_buffer, reason = "CEL holds texts in this way")]
fn scores(This(cluster): This<Cel>, name: Arc<String>) -> Result<Cel, ExecutionError> {
    let found = member(&cluster, SCORES).and_then(|scores| member(scores, &name));
    found
        .cloned()
        .ok_or_else(|| failed("scores", &format!("failed to get score: {name} not found")))
}

fn member<'v>(value: &'v Cel, name: &str) -> Option<&'v Cel> {
    let Cel::Map(map) = value else {
        return None;
    };
    map.map.get(&Key::String(Arc::new(name.to_owned())))
}

#[expect(clippy::rc_buffer, reason = "CEL holds texts in this way")]
fn parse_json(This(text): This<Arc<String>>) -> Result<Cel, ExecutionError> {
    let parsed = serde_json::from_str(&text)
        .map_err(|error| failed("parseJSON", &format!("failed to parse json: {error}")))?;
    Ok(convert::value(None, &parsed))
}

fn failed(function: &str, message: &str) -> ExecutionError {
    ExecutionError::FunctionError {
        function: function.to_owned(),
        message: message.to_owned(),
    }
}
