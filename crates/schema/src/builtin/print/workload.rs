//! Jobs.

use serde_json::Value;

use super::{NONE, Row, UNSET, containers, number, or, selector, size};
use crate::builtin::edit::items;
use crate::builtin::time;
use crate::table::human_duration;

impl Row<'_> {
    pub(super) fn job(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let succeeded = number(&status["succeeded"]);
        let completions = match (spec["completions"].as_i64(), number(&spec["parallelism"])) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            _ => format!("{succeeded}/1"),
        };
        let moment = |name: &str| {
            status[name]
                .as_str()
                .and_then(time::parse)
                .map(jiff::Timestamp::as_second)
        };
        let duration = match (moment("startTime"), moment("completionTime")) {
            (None, _) => String::new(),
            (Some(start), end) => human_duration(end.unwrap_or(self.now) - start),
        };
        let holds = |kind: &str| {
            items(&status["conditions"])
                .iter()
                .any(|held| held["type"] == kind && held["status"] == "True")
        };
        let state = if holds("Complete") {
            "Complete"
        } else if holds("Failed") {
            "Failed"
        } else if !self.object["metadata"]["deletionTimestamp"].is_null() {
            "Terminating"
        } else {
            let later = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
            later
                .into_iter()
                .find(|kind| holds(kind))
                .unwrap_or("Running")
        };
        let [names, images] = containers(&spec["template"]["spec"]["containers"]);
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(state),
            Value::from(completions),
            Value::from(duration),
            self.age(),
            names,
            images,
            selector(&spec["selector"]),
        ]
    }

    pub(super) fn cron_job(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let last = &status["lastScheduleTime"];
        let last = if last.is_null() {
            NONE.to_owned()
        } else {
            self.since(last)
        };
        let suspend = match spec["suspend"].as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => UNSET,
        };
        let job = &spec["jobTemplate"]["spec"];
        let [names, images] = containers(&job["template"]["spec"]["containers"]);
        vec![
            self.object["metadata"]["name"].clone(),
            spec["schedule"].clone(),
            or(&spec["timeZone"], NONE),
            Value::from(suspend),
            Value::from(size(&status["active"])),
            Value::from(last),
            self.age(),
            names,
            images,
            selector(&job["selector"]),
        ]
    }
}
