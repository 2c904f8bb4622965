//! What the hub is told of an object's status.

use drover_api::{
    conditions::Status,
    names::work::{REASON_FEEDBACK_FAILED, REASON_FEEDBACK_SYNCED, REASON_NO_FEEDBACK},
    work::v1::{FeedbackRule, FeedbackType, FeedbackValue, FieldValue, JsonPathRule, ValueType},
};
use drover_schema::jsonpath::JsonPath;
use serde_json::Value;

use super::{apply::sorted, manifest::Gvk};

/// The longest JSON text that is reported, in bytes (ocm, pkg/work/spoke `MaxJSONRawLength`; the CRD has the same limit).
pub const MAX_JSON_RAW: usize = 1024;
/// The longest text that is reported, in bytes: a status has to fit into the API.
pub const MAX_TEXT: usize = 16 * 1024;

/// What came of the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// The values that were there, the first of each name.
    pub values: Vec<FeedbackValue>,
    /// The status of StatusFeedbackSynced.
    pub status: Status,
    /// Its reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

impl Feedback {
    /// Nothing is told, because of this.
    pub fn withheld(why: &str) -> Self {
        Self {
            values: Vec::new(),
            status: Status::False,
            reason: REASON_FEEDBACK_FAILED,
            message: format!("Sync status feedback failed with error {why}"),
        }
    }
}

/// Reads what the rules ask for from the live object.
///
/// With `raw`, lists, objects and fractions are reported as JSON text.
pub fn collect(rules: &[FeedbackRule], gvk: &Gvk, live: &Value, raw: bool) -> Feedback {
    if rules.is_empty() {
        return Feedback {
            values: Vec::new(),
            status: Status::True,
            reason: REASON_NO_FEEDBACK,
            message: String::new(),
        };
    }
    let (mut values, mut wrong) = (Vec::<FeedbackValue>::new(), Vec::new());
    let mut keep = |name: &str, read: Result<Option<FieldValue>, String>| match read {
        Ok(Some(value)) if values.iter().all(|known| known.name != name) => {
            values.push(FeedbackValue {
                name: name.to_owned(),
                value,
            });
        }
        Ok(_) => (),
        Err(why) => wrong.push(why),
    };
    for rule in rules {
        match rule.type_ {
            FeedbackType::WellKnownStatus => match well_known(gvk) {
                [] => keep(
                    "",
                    Err(format!(
                        "cannot find the wellknown statuses for resource with gvk {gvk}"
                    )),
                ),
                fields => fields
                    .iter()
                    .for_each(|field| keep(field.name, field.read(live, raw))),
            },
            FeedbackType::JSONPaths => {
                for path in &rule.json_paths {
                    keep(&path.name, at_path(path, gvk, live, raw));
                }
            }
        }
    }
    if wrong.is_empty() {
        return Feedback {
            values,
            status: Status::True,
            reason: REASON_FEEDBACK_SYNCED,
            message: String::new(),
        };
    }
    Feedback {
        values,
        status: Status::False,
        reason: REASON_FEEDBACK_FAILED,
        message: format!(
            "Sync status feedback failed with error {}",
            wrong.join(", ")
        ),
    }
}

/// What is not there is no error. Of several values the first is reported, or with `raw` all of them as a list.
fn at_path(
    rule: &JsonPathRule,
    gvk: &Gvk,
    live: &Value,
    raw: bool,
) -> Result<Option<FieldValue>, String> {
    if !rule.version.is_empty() && rule.version != gvk.version {
        return Err(format!(
            "version set in the path {} is not matched for the related resource",
            rule.name
        ));
    }
    let path = JsonPath::compile(&rule.path).map_err(|why| {
        format!(
            "failed to parse json path {} of {} with error: {why}",
            rule.path, rule.name
        )
    })?;
    match path.find(live).as_slice() {
        [] => Ok(None),
        [first, _, ..] if !raw => field_value(&rule.name, first, raw),
        [only] => field_value(&rule.name, only, raw),
        several => {
            let several = several.iter().copied().cloned().collect();
            field_value(&rule.name, &Value::Array(several), raw)
        }
    }
}

fn field_value(name: &str, value: &Value, raw: bool) -> Result<Option<FieldValue>, String> {
    let empty = FieldValue {
        type_: ValueType::String,
        integer: None,
        string: None,
        boolean: None,
        json_raw: None,
    };
    let value = match value {
        Value::Null => return Ok(None),
        Value::Bool(truth) => FieldValue {
            type_: ValueType::Boolean,
            boolean: Some(*truth),
            ..empty
        },
        Value::String(text) if text.len() > MAX_TEXT => {
            return Err(format!(
                "the value of {name} has {} bytes, at most {MAX_TEXT} are reported",
                text.len()
            ));
        }
        Value::String(text) => FieldValue {
            string: Some(text.clone()),
            ..empty
        },
        Value::Number(number) if number.is_i64() => FieldValue {
            type_: ValueType::Integer,
            integer: number.as_i64(),
            ..empty
        },
        other if raw => match sorted(other).to_string() {
            text if text.len() <= MAX_JSON_RAW => FieldValue {
                type_: ValueType::JsonRaw,
                json_raw: Some(text),
                ..empty
            },
            _ => {
                return Err(format!(
                    "the length of returned json raw string for name {name} is larger than the maximum length {MAX_JSON_RAW}"
                ));
            }
        },
        _ => {
            return Err(format!(
                "the value of {name} is neither an integer, a string nor a boolean"
            ));
        }
    };
    Ok(Some(value))
}

/// One entry of the fixed lists.
struct Field {
    name: &'static str,
    place: Place,
}

/// Where a value of a status is.
enum Place {
    /// A member of the status.
    Member(&'static str),
    /// The status of the condition of this type.
    Condition(&'static str),
}

impl Field {
    const fn member(name: &'static str, member: &'static str) -> Self {
        Self {
            name,
            place: Place::Member(member),
        }
    }

    const fn condition(name: &'static str, type_: &'static str) -> Self {
        Self {
            name,
            place: Place::Condition(type_),
        }
    }

    /// What is not there yet is no error: a new object has no status.
    fn read(&self, live: &Value, raw: bool) -> Result<Option<FieldValue>, String> {
        let status = live.get("status");
        let found = match self.place {
            Place::Member(member) => status.and_then(|status| status.get(member)),
            Place::Condition(type_) => status
                .and_then(|status| {
                    status
                        .get("conditions")?
                        .as_array()?
                        .iter()
                        .find(|condition| {
                            condition.get("type").and_then(Value::as_str) == Some(type_)
                        })
                })
                .and_then(|condition| condition.get("status")),
        };
        found.map_or(Ok(None), |value| field_value(self.name, value, raw))
    }
}

/// What WellKnownStatus reports of a kind (ocm, pkg/work/spoke/statusfeedback/rules).
fn well_known(gvk: &Gvk) -> &'static [Field] {
    const DEPLOYMENT: &[Field] = &[
        Field::member("ReadyReplicas", "readyReplicas"),
        Field::member("Replicas", "replicas"),
        Field::member("AvailableReplicas", "availableReplicas"),
    ];
    const DAEMON_SET: &[Field] = &[
        Field::member("NumberReady", "numberReady"),
        Field::member("DesiredNumberScheduled", "desiredNumberScheduled"),
        Field::member("NumberAvailable", "numberAvailable"),
    ];
    const JOB: &[Field] = &[
        Field::condition("JobComplete", "Complete"),
        Field::member("JobSucceeded", "succeeded"),
    ];
    const POD: &[Field] = &[
        Field::condition("PodReady", "Ready"),
        Field::member("PodPhase", "phase"),
    ];
    match (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str()) {
        ("apps", "v1", "Deployment") => DEPLOYMENT,
        ("apps", "v1", "DaemonSet") => DAEMON_SET,
        ("batch", "v1", "Job") => JOB,
        ("", "v1", "Pod") => POD,
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
