//! What a publisher counts, for Prometheus.

use std::fmt;
use std::time::Duration;

use drover_api::fedora::v1alpha1::{Environment, FedoraMessage, FedoraMessageStatus};
use drover_api::names::fedora as names;
use drover_runtime::election::Leadership;
use drover_runtime::metrics::Metrics;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::stored::Stored;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    env: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    env: &'static str,
    reason: String,
}

/// The counters. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    messages: Family<Outcome, Counter>,
    attempts: Family<Of, Counter>,
    uncertain: Family<Of, Counter>,
    seconds: Seconds,
    /// Events that nobody wrote, because too many waited.
    pub(crate) dropped: Counter,
}

#[derive(Clone, Debug)]
struct Seconds(Family<Of, Histogram, fn() -> Histogram>);

impl Default for Seconds {
    fn default() -> Self {
        // A millisecond to a minute: in process a few, a pod takes seconds.
        Self(Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(1e-3, 2.0, 17))
        }))
    }
}

fn of(message: &FedoraMessage) -> Of {
    Of {
        env: message.spec.env.as_str(),
    }
}

impl Tally {
    /// Shows everything; messages that are not over are counted by who leads, so that the sum over all copies is right.
    pub(crate) fn register(
        &self,
        metrics: &Metrics,
        messages: Store<Stored>,
        leadership: Leadership,
    ) {
        let pending = Pending {
            messages,
            leadership,
        };
        metrics.register(|all| {
            all.register(
                "fmsg_messages",
                "Outcomes that were written to the status of messages",
                self.messages.clone(),
            );
            all.register(
                "fmsg_send_seconds",
                "Time from the begin of an attempt to the broker's confirm",
                self.seconds.0.clone(),
            );
            all.register("fmsg_attempts", "Attempts begun", self.attempts.clone());
            all.register(
                "fmsg_uncertain",
                "Attempts of which nobody knows whether the message arrived",
                self.uncertain.clone(),
            );
            all.register(
                "fmsg_events_dropped",
                "Kubernetes Events that were not written because too many waited",
                self.dropped.clone(),
            );
            all.register_collector(Box::new(pending));
        });
    }

    /// A status was written. `message` has it; `before` is the one that it had.
    pub(crate) fn written(&self, before: Option<&FedoraMessageStatus>, message: &FedoraMessage) {
        let Some(status) = &message.status else {
            return;
        };
        let none = FedoraMessageStatus::default();
        let before = before.unwrap_or(&none);
        // Counters in a status begin anew with another message in the same resource.
        let more = |now: u32, then: u32| {
            let same = before.spec_hash == status.spec_hash;
            u64::from(now.saturating_sub(if same { then } else { 0 }))
        };
        let attempts = more(status.attempts, before.attempts);
        if attempts > 0 {
            self.attempts.get_or_create(&of(message)).inc_by(attempts);
        }
        let uncertain = more(status.uncertain_attempts, before.uncertain_attempts);
        if uncertain > 0 {
            self.uncertain.get_or_create(&of(message)).inc_by(uncertain);
        }
        if let Some(reason) = &status.reason
            && before.reason.as_ref() != Some(reason)
            && reason != names::REASON_PENDING
        {
            let outcome = Outcome {
                env: message.spec.env.as_str(),
                reason: reason.clone(),
            };
            self.messages.get_or_create(&outcome).inc();
        }
    }

    /// An attempt took so long until its confirm.
    pub(crate) fn took(&self, message: &FedoraMessage, time: Duration) {
        let seconds = self.seconds.0.get_or_create(&of(message));
        seconds.observe(time.as_secs_f64());
    }
}

/// The messages that are not over, at the moment when they are asked for.
struct Pending {
    messages: Store<Stored>,
    leadership: Leadership,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// Whether its status says that it is over: sent, given up, or a copy of a sent one.
fn over(message: &FedoraMessage) -> bool {
    let status = message.status.as_ref();
    status.is_some_and(|status| status.completion_time.is_some())
}

impl Collector for Pending {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let leads = self.leadership.leads();
        let all = if leads {
            self.messages.state()
        } else {
            Vec::new()
        };
        let help = "Messages that are neither sent nor given up, on the copy that leads";
        let mut family =
            encoder.encode_descriptor("fmsg_pending", help, None, MetricType::Gauge)?;
        for environment in [Environment::Stg, Environment::Prod] {
            let open = |message: &FedoraMessage| message.spec.env == environment && !over(message);
            let count = all.iter().filter(|stored| open(&stored.message)).count();
            let labels = Of {
                env: environment.as_str(),
            };
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn message(name: &str, status: serde_json::Value) -> FedoraMessage {
        let object = json!({
            "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"env": "stg", "message": {"topic": "a", "body": {}}, "authentication": {}},
            "status": status,
        });
        serde_json::from_value(object).expect("it is a message")
    }

    #[test]
    fn what_was_written_is_counted_once() {
        let (metrics, tally) = (Metrics::default(), Tally::default());
        let (store, mut writer) = reflector::store();
        let stored = |name, status| Stored {
            message: message(name, status),
            unreadable: None,
        };
        let pending = stored("open", json!({"reason": "Pending", "attempts": 1}));
        writer.apply_watcher_event(&Event::Apply(pending));
        let done = stored("done", json!({"completionTime": "2026-01-01T00:00:00Z"}));
        writer.apply_watcher_event(&Event::Apply(done));
        tally.register(&metrics, store, Leadership::alone());
        let walk = [
            json!({"reason": "Pending", "attempts": 1}),
            json!({"reason": "DeliveryUncertain", "attempts": 1, "uncertainAttempts": 1}),
            json!({"reason": "Pending", "attempts": 2, "uncertainAttempts": 1}),
            json!({"reason": "Sent", "attempts": 2, "uncertainAttempts": 1}),
            json!({"reason": "Sent", "attempts": 2, "uncertainAttempts": 1, "observedGeneration": 2}),
        ];
        let mut before = None;
        for status in walk {
            let message = message("one", status);
            tally.written(before.as_ref(), &message);
            before = message.status;
        }
        tally.took(&message("one", json!({})), Duration::from_millis(3));
        let text = metrics.encode().expect("it can be written");
        for line in [
            "fmsg_messages_total{env=\"stg\",reason=\"Sent\"} 1",
            "fmsg_messages_total{env=\"stg\",reason=\"DeliveryUncertain\"} 1",
            "fmsg_attempts_total{env=\"stg\"} 2",
            "fmsg_uncertain_total{env=\"stg\"} 1",
            "fmsg_send_seconds_count{env=\"stg\"} 1",
            "fmsg_events_dropped_total 0",
            "fmsg_pending{env=\"stg\"} 1",
            "fmsg_pending{env=\"prod\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("Pending\""), "{text}");
    }
}
