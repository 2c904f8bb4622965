//! What a process counts, for Prometheus.

mod process;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::StatusCode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Answer};

/// The text format that `prometheus-client` writes (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry. Clones are the same one; what is registered through a clone carries the clone's labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    labels: Vec<(String, String)>,
}

/// Where metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics are served in plain text: {0} is not an address of loopback; choose 127.0.0.1, and a proxy with TLS in front of it"
)]
pub struct NotLoopback(SocketAddr);

impl Metrics {
    /// A registry that tells of this process, and of what version it is.
    pub fn of_process(version: &'static str) -> Self {
        let metrics = Self::default();
        metrics.register(|registry| {
            let info = Info::new([("version", version)]);
            registry.register("drover_build", "What runs", info);
            registry.register_collector(Box::new(process::Process));
        });
        metrics
    }

    /// The same registry, with a label on all that is registered from now on.
    pub fn labelled(&self, name: &str, value: &str) -> Self {
        let mut labelled = self.clone();
        labelled.labels.push((name.to_owned(), value.to_owned()));
        labelled
    }

    /// Registers.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = self
            .labels
            .iter()
            .map(|(name, value)| (name.clone().into(), value.clone().into()));
        register(registry.sub_registry_with_labels(labels));
    }

    /// Everything, as it is now.
    ///
    /// # Errors
    /// When something that is registered cannot be written.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Answers `GET /metrics` until `cancel`.
    ///
    /// # Errors
    /// When the listener can be reached from elsewhere.
    pub fn serve(
        self,
        listener: TcpListener,
        cancel: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send, NotLoopback> {
        if let Ok(address) = listener.local_addr()
            && !address.ip().is_loopback()
        {
            return Err(NotLoopback(address));
        }
        Ok(http::serve(listener, cancel, move |path| self.answer(path)))
    }

    fn answer(&self, path: &str) -> Option<Answer> {
        if path != "/metrics" {
            return None;
        }
        Some(match self.encode() {
            Ok(text) => Answer {
                status: StatusCode::OK,
                kind: CONTENT_TYPE,
                text,
            },
            Err(error) => Answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("failed to write the metrics: {error}\n"),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;
    use crate::http::ask;

    #[tokio::test]
    async fn what_is_counted_is_served_with_its_labels() {
        let metrics = Metrics::default();
        let counter = Counter::<u64>::default();
        metrics
            .labelled("hub", "hub1")
            .register(|registry| registry.register("sheep", "Counted", counter.clone()));
        counter.inc_by(3);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let cancel = CancellationToken::new();
        let serving = metrics
            .serve(listener, cancel.clone())
            .expect("loopback is fine");
        let serving = tokio::spawn(serving);
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("sheep_total{hub=\"hub1\"} 3"), "{answer}");
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(
            ask(address, "POST /metrics")
                .await
                .starts_with("HTTP/1.1 405")
        );
        cancel.cancel();
        serving.await.expect("it ends");
    }

    #[test]
    fn a_process_tells_of_itself() {
        let text = Metrics::of_process("1.2.3").encode();
        let text = text.expect("it can be written");
        let build = "drover_build_info{version=\"1.2.3\"} 1";
        assert!(text.lines().any(|line| line == build), "{text}");
        for name in [
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_open_fds",
        ] {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            let value = found.and_then(|rest| rest.trim().parse::<f64>().ok());
            assert!(value.is_some_and(|value| value >= 0.0), "{name}\n{text}");
        }
    }

    #[tokio::test]
    async fn nobody_else_is_served_in_plain_text() {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let refused = Metrics::default().serve(listener, CancellationToken::new());
        assert!(refused.is_err());
    }
}
