//! Whether a process lives and is ready, for whoever starts and stops it: `/livez`, `/readyz`, and `/healthz` as older probes ask.
//!
//! It lives as long as it answers: a process of which a part has failed ends by itself. It is ready when each of its gates is open.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Answer};

/// The gates of a process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, bool>>>);

/// One thing that must be so before a process is ready.
#[derive(Clone, Debug)]
pub struct Gate {
    health: Health,
    name: String,
}

impl Gate {
    /// It is so.
    pub fn open(&self) {
        self.health.state().insert(self.name.clone(), true);
    }

    /// It is not so, or not any more.
    pub fn close(&self) {
        self.health.state().insert(self.name.clone(), false);
    }
}

impl Health {
    fn state(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gate, closed.
    pub fn gate(&self, name: &str) -> Gate {
        let gate = Gate {
            health: self.clone(),
            name: name.to_owned(),
        };
        gate.close();
        gate
    }

    /// Whether all gates are open, and one line for each as Kubernetes' components write them.
    pub fn ready(&self) -> (bool, String) {
        let state = self.state();
        let mut text = String::new();
        for (name, open) in state.iter() {
            let (sign, word) = if *open { ('+', "ok") } else { ('-', "not yet") };
            // Writing to a string does not fail.
            writeln!(text, "[{sign}]{name} {word}").ok();
        }
        let ready = !state.is_empty() && state.values().all(|open| *open);
        (ready, text)
    }

    fn answer(&self, path: &str) -> Option<Answer> {
        match path {
            "/livez" | "/healthz" => Some(Answer::text(StatusCode::OK, "ok\n")),
            "/readyz" => {
                let (ready, text) = self.ready();
                let (status, word) = if ready {
                    (StatusCode::OK, "ready")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ready")
                };
                Some(Answer::text(status, format!("{text}{word}\n")))
            }
            _ => None,
        }
    }

    /// Answers probes until `cancel`.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) {
        http::serve(listener, cancel, move |path| self.answer(path)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_when_all_gates_are_open() {
        let health = Health::default();
        let (caches, broker) = (health.gate("caches"), health.gate("broker"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(health.serve(listener, cancel.clone()));
        let ask = async |path: &str| http::ask(address, &format!("GET {path}")).await;
        assert!(ask("/livez").await.starts_with("HTTP/1.1 200"));
        caches.open();
        let answer = ask("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("[-]broker not yet\n[+]caches ok\nnot ready\n"),
            "{answer}"
        );
        broker.open();
        assert!(ask("/readyz").await.starts_with("HTTP/1.1 200"));
        caches.close();
        assert!(ask("/readyz?verbose").await.starts_with("HTTP/1.1 503"));
        assert!(ask("/").await.starts_with("HTTP/1.1 404"));
        cancel.cancel();
        serving.await.expect("it ends");
    }
}
