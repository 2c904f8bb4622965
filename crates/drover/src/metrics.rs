//! Where Prometheus asks: in plain text on loopback; elsewhere with TLS, and only whoever the role's API lets read `/metrics`, as
//! Kubernetes' own components do it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use drover_apiserver::auth::ca::Authority;
use drover_apiserver::tls::{self, Limits, ReloadableTls, TlsFiles};
use drover_runtime::metrics::{CONTENT_TYPE, Metrics};
use drover_runtime::supervise::Tasks;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cli;

const PATH: &str = "/metrics";
/// Connections at the same time: a few scrapers, and people.
const CONNECTIONS: usize = 16;
/// Questions to the API at the same time; more wait.
const AT_ONCE: usize = 2;
/// How long the API may take to say who somebody is and what he may do.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a token that was let in is let in without asking again (controller-runtime: a minute for who, five for what).
const TRUSTED: Duration = Duration::from_mins(1);
/// Tokens that are let in without asking; with more, all are asked for again.
const MOST: usize = 64;
/// How long a certificate that nobody signed is good.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Clocks of others may be behind.
const SKEW: SignedDuration = SignedDuration::from_mins(30);
/// Between two looks at the files of a certificate.
const LOOK: Duration = Duration::from_mins(1);

/// Counters of this process, for whoever is on this machine, if an address is given.
pub async fn serve_plain(
    address: Option<SocketAddr>,
    tasks: &mut Tasks,
) -> Result<Option<Metrics>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let metrics = Metrics::of_process(env!("CARGO_PKG_VERSION"));
    let serving = metrics
        .clone()
        .serve(listen(address).await?, tasks.cancel_token())?;
    tasks.run("metrics", serving);
    Ok(Some(metrics))
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for metrics"))
}

impl cli::Scraped {
    /// Counters of this process, if an address is given where they are asked for. `client` says who may see them.
    pub async fn serve(&self, client: &Client, tasks: &mut Tasks) -> Result<Option<Metrics>> {
        let secured =
            |address: &SocketAddr| !address.ip().is_loopback() || self.metrics_tls_cert.is_some();
        let Some(address) = self.metrics.filter(secured) else {
            return serve_plain(self.metrics, tasks).await;
        };
        let metrics = Metrics::of_process(env!("CARGO_PKG_VERSION"));
        let listener = listen(address).await?;
        let tls = match (&self.metrics_tls_cert, &self.metrics_tls_key) {
            (Some(cert), Some(key)) => {
                let files = Files(cert.clone(), key.clone());
                let read = files.read().await?;
                let tls = ReloadableTls::new(&read)?;
                let following = files.follow(read, tls.clone(), tasks.cancel_token());
                tasks.run("the certificate of the metrics", following);
                tls
            }
            _ => unsigned()?,
        };
        let door = Arc::new(Door {
            metrics: metrics.clone(),
            client: client.clone(),
            asking: Semaphore::new(AT_ONCE),
            trusted: Mutex::default(),
        });
        let router = Router::new().route(PATH, get(answer)).with_state(door);
        let limits = Limits {
            connections: CONNECTIONS,
            ..Limits::default()
        };
        let cancel = tasks.cancel_token();
        tasks.run(
            "metrics",
            tls::serve_with(listener, tls, router, cancel, limits),
        );
        Ok(Some(metrics))
    }
}

/// A certificate that only keeps others from listening.
fn unsigned() -> Result<ReloadableTls> {
    let early = Timestamp::now().checked_sub(SKEW)?;
    let authority = Authority::create("drover metrics", LIFE, early)?;
    let host = std::env::var("HOSTNAME").ok();
    let names: Vec<String> = host.into_iter().chain(["localhost".to_owned()]).collect();
    let issued = authority.issue_server(&names, LIFE, early)?;
    Ok(ReloadableTls::new(&TlsFiles {
        certificate: issued.certificate,
        key: issued.key,
        client_ca: None,
    })?)
}

/// Certificate and key.
struct Files(PathBuf, PathBuf);

impl Files {
    async fn read(&self) -> Result<TlsFiles> {
        let read = async |path: &PathBuf| {
            let text = tokio::fs::read_to_string(path).await;
            text.with_context(|| format!("failed to read {}", path.display()))
        };
        Ok(TlsFiles {
            certificate: read(&self.0).await?,
            key: read(&self.1).await?,
            client_ca: None,
        })
    }

    async fn follow(self, mut used: TlsFiles, tls: ReloadableTls, cancel: CancellationToken) {
        let pause = || cancel.run_until_cancelled(tokio::time::sleep(LOOK));
        while pause().await.is_some() {
            let told = match self.read().await {
                Ok(read) if read.certificate == used.certificate && read.key == used.key => {
                    continue;
                }
                Ok(read) => tls
                    .reload(&read)
                    .map(|()| used = read)
                    .map_err(anyhow::Error::from),
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::warn!("the metrics keep their old certificate: {error:#}");
            }
        }
    }
}

/// Lets people in.
struct Door {
    metrics: Metrics,
    client: Client,
    asking: Semaphore,
    /// Until when tokens are let in without asking, by their hashes.
    trusted: Mutex<HashMap<[u8; 32], Instant>>,
}

async fn answer(State(door): State<Arc<Door>>, headers: HeaderMap) -> Response {
    let shown = headers.get(header::AUTHORIZATION);
    let token = shown
        .and_then(|shown| shown.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(token) = token else {
        let how = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, how, "show a bearer token\n").into_response();
    };
    let asked = tokio::time::timeout(PATIENCE, door.admit(token)).await;
    let refused = match asked {
        Ok(Ok(())) => None,
        Ok(Err(refused)) => Some(refused),
        Err(_) => Some((StatusCode::SERVICE_UNAVAILABLE, "the API does not answer\n")),
    };
    if let Some(refused) = refused {
        return refused.into_response();
    }
    match door.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            let text = format!("failed to write the metrics: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

type Refused = (StatusCode, &'static str);

/// What the API says of a token.
enum Verdict {
    /// Whoever has it may see the metrics.
    Welcome,
    /// He may not.
    Unwanted,
    /// It is nobody's.
    Nobody,
}

impl Door {
    async fn admit(&self, token: &str) -> Result<(), Refused> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if self.trusts(&hash) {
            return Ok(());
        }
        let slot = self.asking.acquire().await;
        let asked = self.ask(token).await;
        drop(slot);
        match asked {
            Ok(Verdict::Welcome) => {
                self.trust(hash);
                Ok(())
            }
            Ok(Verdict::Unwanted) => Err((
                StatusCode::FORBIDDEN,
                "you may not get the URL /metrics of this cluster\n",
            )),
            Ok(Verdict::Nobody) => Err((StatusCode::UNAUTHORIZED, "the token is not valid\n")),
            Err(error) => {
                tracing::warn!(%error, "the API does not say who may see the metrics");
                Err((StatusCode::SERVICE_UNAVAILABLE, "the API cannot be asked\n"))
            }
        }
    }

    async fn ask(&self, token: &str) -> Result<Verdict, kube::Error> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let known = api.create(&PostParams::default(), &review).await?.status;
        let known = known.filter(|status| status.authenticated == Some(true));
        let Some(user) = known.and_then(|status| status.user) else {
            return Ok(Verdict::Nobody);
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(PATH.to_owned()),
                    verb: Some("get".to_owned()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(match answer.status {
            Some(status) if status.allowed => Verdict::Welcome,
            _ => Verdict::Unwanted,
        })
    }

    fn trusts(&self, hash: &[u8; 32]) -> bool {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted
            .get(hash)
            .is_some_and(|until| *until > Instant::now())
    }

    fn trust(&self, hash: [u8; 32]) {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if trusted.len() >= MOST {
            trusted.clear();
        }
        trusted.insert(hash, Instant::now() + TRUSTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        let config = kube::Config::new(http::Uri::from_static("https://127.0.0.1:1"));
        Door {
            metrics: Metrics::default(),
            client: Client::try_from(config).unwrap(),
            asking: Semaphore::new(AT_ONCE),
            trusted: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn without_a_certificate_one_is_made() {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        unsigned().unwrap();
    }

    #[tokio::test]
    async fn who_was_let_in_is_known_for_a_while_and_nobody_else() {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let door = door();
        assert!(!door.trusts(&[1; 32]));
        door.trust([1; 32]);
        assert!(door.trusts(&[1; 32]) && !door.trusts(&[2; 32]));
        for number in 2..=u8::try_from(MOST).unwrap() + 1 {
            door.trust([number; 32]);
        }
        assert!(!door.trusts(&[1; 32]), "not ever more of them");
        door.trusted.lock().unwrap().insert([7; 32], Instant::now());
        assert!(!door.trusts(&[7; 32]), "its time is over");
    }

    #[tokio::test]
    async fn an_api_that_cannot_be_asked_lets_nobody_in() {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let refused = door().admit("token").await.unwrap_err();
        assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
