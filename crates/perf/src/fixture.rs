//! The works that every implementation is measured with: deterministic, and the same bytes everywhere.

use std::sync::Arc;

use anyhow::Result;
use drover_protocol::raw::Raw;
use drover_protocol::work::{
    Condition, ManifestCondition, ManifestResourceMeta, ResourceStatus, StatusFeedback,
};
use drover_protocol::{DataType, ObjectMeta, Work, WorkSpec, WorkStatus, names};
use jiff::Timestamp;
use uuid::Uuid;

/// Annotation in which a sent work tells when it was sent, in nanoseconds of the monotonic clock.
pub const STAMP: &str = "perf.example.io/sent-ns";

/// Conditions are this old, in Unix seconds, plus their number.
const EPOCH: i64 = 1_767_225_600;

/// The name of a cluster.
pub fn cluster(number: usize) -> String {
    format!("cluster{number}")
}

/// Which works to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Manifests of a work.
    pub manifests: usize,
    /// Bytes of each.
    pub size: usize,
    /// Generation.
    pub version: i64,
}

/// Work number `id` as its source has it.
pub fn work(id: usize, cluster: &str, shape: Shape) -> Result<Work> {
    let name = format!("work-{id:06}");
    let manifests = (0..shape.manifests)
        .map(|number| Raw::from_text(config_map(id, number, shape.size)))
        .collect::<Result<_, _>>()?;
    Ok(Work {
        metadata: ObjectMeta {
            namespace: cluster.to_owned(),
            uid: Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_bytes()).to_string(),
            name,
            generation: shape.version,
            resource_version: shape.version.to_string(),
            labels: [("perf.example.io/set".to_owned(), "bench".to_owned())].into(),
            ..ObjectMeta::default()
        },
        spec: Arc::new(WorkSpec {
            manifests,
            ..WorkSpec::default()
        }),
        status: WorkStatus::default(),
    })
}

/// The same as its agent has it.
pub fn held(mut work: Work, source: &str) -> Work {
    let meta = &mut work.metadata;
    meta.labels
        .insert(names::LABEL_ORIGINAL_SOURCE.to_owned(), source.to_owned());
    meta.annotations.insert(
        names::ANNOTATION_DATA_TYPE.to_owned(),
        DataType::MANIFEST_BUNDLES.to_string(),
    );
    meta.resource_version.clear();
    work
}

/// What an agent reports of a work: two conditions, and two for each manifest.
pub fn status(work: &Work, number: usize) -> WorkStatus {
    let time = Timestamp::from_second(EPOCH + number as i64).ok();
    let condition = |kind: &str, reason: &str, message: &str| Condition {
        last_transition_time: time,
        message: message.to_owned(),
        observed_generation: work.metadata.generation,
        reason: reason.to_owned(),
        status: "True".to_owned(),
        condition_type: kind.to_owned(),
    };
    let suffix = work.metadata.name.trim_start_matches("work-");
    let of_manifest = |ordinal: usize| ManifestCondition {
        conditions: Some(vec![
            condition(
                "Applied",
                "AppliedManifestComplete",
                "Apply manifest complete",
            ),
            condition("Available", "ResourceAvailable", "Resource is available"),
        ]),
        resource_meta: ManifestResourceMeta {
            kind: "ConfigMap".to_owned(),
            name: format!("cm-{suffix}-{ordinal:02}"),
            namespace: "default".to_owned(),
            ordinal: ordinal as i32,
            resource: "configmaps".to_owned(),
            version: "v1".to_owned(),
            ..ManifestResourceMeta::default()
        },
        status_feedback: StatusFeedback::default(),
    };
    WorkStatus {
        conditions: vec![
            condition(
                "Applied",
                "AppliedManifestWorkComplete",
                "Apply manifest work complete",
            ),
            condition(
                "Available",
                "ResourcesAvailable",
                "All resources are available",
            ),
        ],
        resource_status: ResourceStatus {
            manifests: (0..work.spec.manifests.len()).map(of_manifest).collect(),
        },
    }
}

/// A ConfigMap of exactly `size` bytes of JSON (unless that is too small): four keys of text that looks random.
fn config_map(work: usize, number: usize, size: usize) -> String {
    const KEYS: usize = 4 * "\"key0\":\"\",".len() - 1 + 2;
    let head = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"cm-{work:05}-{number:02}\",\"namespace\":\"default\",\"labels\":{{\"app\":\"perf\",\"tier\":\"t{}\"}}}},\"data\":{{",
        number % 3
    );
    let mut state = (work as u64)
        .wrapping_mul(1_000_003)
        .wrapping_add((number as u64).wrapping_mul(7919))
        .wrapping_add(88_172_645_463_325_252);
    let mut random = |length: usize| -> String {
        (0..length)
            .map(|_| {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let at = (state.wrapping_mul(2_685_821_657_736_338_717) >> 33) % 36;
                char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[at as usize])
            })
            .collect()
    };
    let room = size.saturating_sub(head.len() + KEYS).max(4);
    let quarter = room / 4;
    let (a, b, c) = (random(quarter), random(quarter), random(quarter));
    let d = random(room - 3 * quarter);
    format!("{head}\"key0\":\"{a}\",\"key1\":\"{b}\",\"key2\":\"{c}\",\"key3\":\"{d}\"}}}}")
}

#[cfg(test)]
mod tests {
    use super::{Shape, config_map, status, work};

    #[test]
    fn manifests_have_the_size_that_is_asked_for() {
        for (id, number, size) in [(0, 0, 1024), (99_999, 12, 1024), (7, 3, 300)] {
            let text = config_map(id, number, size);
            assert_eq!(text.len(), size);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }

    /// What the other implementations generate for the first work.
    #[test]
    fn works_are_those_of_other_implementations() {
        let shape = Shape {
            manifests: 10,
            size: 1024,
            version: 1,
        };
        let work = work(0, "cluster0", shape).unwrap();
        assert_eq!(work.metadata.uid, "3f933205-d034-5ce4-98e7-a5e98d43f6ac");
        let first = work.spec.manifests[0].get();
        assert!(first.contains("\"key0\":\"jemkucisnsnxfsmq9sy7a73yhyopjvclr87gzrqs93iwpet0nnqz3hb5l2f8atgei02pbpdaz7hgnea0o5bn36kpwdu7plhglusshj1dbr3eib1tfcj1hbawingd7v6c975pgdc121yj"), "{first}");
        assert_eq!(
            status(&work, 0).hash(),
            "a72f163bc0d8ac4d3b70535b648fc41318837107775a11d205ff53ff33c64902"
        );
    }
}
