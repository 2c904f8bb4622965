//! What a process counts, for Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The text format that `prometheus-client` writes (OpenMetrics 1.0).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Scrapers that may be connected at once.
const CONNECTIONS: usize = 16;

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
        Ok(self.accept(listener, cancel))
    }

    async fn accept(self, listener: TcpListener, cancel: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                () = cancel.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < CONNECTIONS => stream,
                    Ok(_) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a scraper");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let metrics = self.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = metrics.answer(request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer);
            let cancel = cancel.clone();
            connections.spawn(async move {
                if let Some(Err(error)) = cancel.run_until_cancelled(connection).await {
                    tracing::debug!(%error, "a scraper went away");
                }
            });
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        let (status, kind, text) = match (method, path) {
            (&Method::GET, "/metrics") => match self.encode() {
                Ok(text) => (StatusCode::OK, CONTENT_TYPE, text),
                Err(error) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain",
                    format!("failed to write the metrics: {error}\n"),
                ),
            },
            (_, "/metrics") => (
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "only GET\n".to_owned(),
            ),
            _ => (
                StatusCode::NOT_FOUND,
                "text/plain",
                "metrics are at /metrics\n".to_owned(),
            ),
        };
        let mut response = Response::new(text);
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        answer
    }

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

    #[tokio::test]
    async fn nobody_else_is_served_in_plain_text() {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let refused = Metrics::default().serve(listener, CancellationToken::new());
        assert!(refused.is_err());
    }
}
