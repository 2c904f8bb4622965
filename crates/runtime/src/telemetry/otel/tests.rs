use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter();
        let spans = spans.flat_map(|resource| resource.scope_spans);
        let mut kept = self.0.lock().expect("nobody panics with it");
        kept.extend(spans.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_one_trace_arrive_at_a_collector() {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let collector = Collector::default();
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(serving);

    let (spans, export) = to(Some(endpoint)).expect("the endpoint is one");
    let subscriber = tracing_subscriber::registry().with(spans);
    let (trace, step) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    tracing::subscriber::with_default(subscriber, || {
        let sent = tracing::debug_span!(
            target: "drover_client::events", "publish", otel.kind = "producer", event.id = "one", trace_id = trace, span_id = tracing::field::Empty
        );
        sent.record("span_id", step);
        drop(sent);
        drop(tracing::debug_span!(
            target: "drover_client::events", "receive", otel.kind = "consumer", trace_id = trace, parent_id = step
        ));
        drop(tracing::debug_span!("of no trace"));
    });
    // Exporting what is left blocks until the collector has it.
    tokio::task::spawn_blocking(move || drop(export))
        .await
        .expect("dropping does not panic");
    serving.abort();

    let spans = collector.0.lock().expect("nobody panics with it");
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let seen: Vec<_> = spans
        .iter()
        .map(|span| {
            (
                span.name.as_str(),
                hex(&span.trace_id),
                hex(&span.parent_span_id),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("publish", trace.to_owned(), String::new()),
            ("receive", trace.to_owned(), step.to_owned()),
        ]
    );
    assert_eq!(hex(&spans[0].span_id), step);
    assert_eq!(spans[0].attributes[0].key, "event.id");
}
