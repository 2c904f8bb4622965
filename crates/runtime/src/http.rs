//! Small answers over HTTP/1: what a process tells of itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Who may be connected at once.
const CONNECTIONS: usize = 16;
/// Text for people.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// What is answered.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub kind: &'static str,
    pub text: String,
}

impl Answer {
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            kind: TEXT,
            text: text.into(),
        }
    }
}

/// Answers each `GET` until `cancel`; `None` is a path that is not there.
pub(crate) async fn serve(
    listener: TcpListener,
    cancel: CancellationToken,
    answer: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    let connections = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS => stream,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path();
            let found = answer(path)
                .unwrap_or_else(|| Answer::text(StatusCode::NOT_FOUND, "nothing is here\n"));
            let found = match *request.method() {
                Method::GET => found,
                _ if found.status == StatusCode::NOT_FOUND => found,
                _ => Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
            };
            let response = response(found);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        let cancel = cancel.clone();
        connections.spawn(async move {
            if let Some(Err(error)) = cancel.run_until_cancelled(connection).await {
                tracing::debug!(%error, "a client went away");
            }
        });
    }
}

fn response(answer: Answer) -> Response<String> {
    let mut response = Response::new(answer.text);
    *response.status_mut() = answer.status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(answer.kind),
    );
    response
}

/// Asks as a client would.
#[cfg(test)]
pub(crate) async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("it listens");
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
