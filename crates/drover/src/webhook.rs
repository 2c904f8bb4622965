//! The webhook server of `drover hub`: its flags, its socket, its certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use drover_apiserver::auth::ca::{Authority, CaError};
use drover_apiserver::tls::{self, Limits, ReloadableTls, TlsFiles};
use drover_core::admission::Policy;
use drover_hub::webhook::{Keeper, Lives, PERIOD, Pair, Pki, Place, Target, service};
use drover_runtime::clock::Clock;
use drover_runtime::supervise::Tasks;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::cli;

/// The port of a Service that names none.
const HTTPS: u16 = 443;
/// An API server opens few connections and keeps them.
const CONNECTIONS: usize = 1000;

impl cli::Webhooks {
    /// Serves and keeps the webhooks of the API behind `client`, if that is asked for. `home` is the hub's namespace.
    pub async fn start(&self, client: &Client, home: &str, tasks: &mut Tasks) -> Result<()> {
        let Some(address) = self.webhook_listen else {
            return Ok(());
        };
        let (target, names) = self.target(home)?;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for webhooks"))?;
        let home = match &target {
            Target::Service { namespace, .. } => namespace,
            Target::Url(_) => home,
        };
        let keeper = Keeper {
            client: client.clone(),
            clock: Clock::system(),
            secret: place(&self.webhook_secret, home)?,
            target,
            names,
            lives: Lives::default(),
            period: PERIOD,
            policy: Policy::default(),
            pki: Arc::new(Authorities),
        };
        run(keeper, listener, tasks);
        Ok(())
    }

    /// How the API server finds the webhooks, and the names that a certificate must have for it.
    fn target(&self, home: &str) -> Result<(Target, Vec<String>)> {
        if let Some(url) = &self.webhook_url {
            return by_url(url);
        }
        let text = self.webhook_service.as_deref().unwrap_or_default();
        let (object, port) = match text.split_once(':') {
            Some((object, port)) => (object, port.parse()),
            None => (text, Ok(HTTPS)),
        };
        let port = port.with_context(|| format!("the Service {text:?} has no port"))?;
        let Place { namespace, name } = place(object, home)?;
        let names = vec![
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
        ];
        let target = Target::Service {
            namespace,
            name,
            port,
        };
        Ok((target, names))
    }
}

fn by_url(url: &str) -> Result<(Target, Vec<String>)> {
    let url = url.trim_end_matches('/');
    let uri: http::Uri = url
        .parse()
        .with_context(|| format!("{url:?} is no URL of a webhook server"))?;
    let host = uri.host().unwrap_or_default();
    let plain = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/");
    if !plain || host.is_empty() {
        bail!("{url:?} is no URL of a webhook server: use https://HOST:PORT, without a path");
    }
    let host = host.trim_matches(['[', ']']);
    Ok((Target::Url(url.to_owned()), vec![host.to_owned()]))
}

/// `[NAMESPACE/]NAME`.
fn place(text: &str, home: &str) -> Result<Place> {
    let (namespace, name) = text.split_once('/').unwrap_or((home, text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        bail!("{text:?} names nothing: use NAME or NAMESPACE/NAME");
    }
    Ok(Place {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// Serves as soon as there is a certificate, and with the newest.
fn run(keeper: Keeper, listener: TcpListener, tasks: &mut Tasks) {
    let router = service(keeper.client.clone(), keeper.policy, keeper.clock.clone());
    let (ready, first) = oneshot::channel::<ReloadableTls>();
    let (mut ready, mut current) = (Some(ready), None::<ReloadableTls>);
    let show = move |pair: &Pair| {
        let files = TlsFiles {
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
            client_ca: None,
        };
        if let Some(current) = &current {
            return current.reload(&files).map_err(|error| error.to_string());
        }
        let made = ReloadableTls::new(&files).map_err(|error| error.to_string())?;
        current = Some(made.clone());
        let ready = ready.take().ok_or("there was one already")?;
        ready
            .send(made)
            .map_err(|_| "the webhook server stopped".to_owned())
    };
    tasks.run(
        "the keeper of the webhooks",
        keeper.run(show, tasks.cancel_token()),
    );
    let cancel = tasks.cancel_token();
    tasks.run("the webhooks", async move {
        let Ok(tls) = first.await else {
            return;
        };
        let limits = Limits {
            connections: CONNECTIONS,
            ..Limits::default()
        };
        if let Ok(address) = listener.local_addr() {
            serving(address);
        }
        tls::serve_with(listener, tls, router, cancel, limits).await;
    });
}

fn serving(address: SocketAddr) {
    tracing::info!(%address, "the webhooks are served");
}

/// Certificates as the embedded API makes them.
struct Authorities;

impl Pki for Authorities {
    fn authority(&self, name: &str, life: SignedDuration, now: Timestamp) -> Result<Pair, String> {
        let made = Authority::create(name, life, now).map_err(told)?;
        Ok(Pair {
            certificate: made.certificate_pem().to_owned(),
            key: made.key_pem(),
        })
    }

    fn serving(
        &self,
        authority: &Pair,
        names: &[String],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Pair, String> {
        let authority =
            Authority::from_pem(&authority.certificate, &authority.key).map_err(told)?;
        let issued = authority.issue_server(names, life, now).map_err(told)?;
        Ok(Pair {
            certificate: issued.certificate,
            key: issued.key,
        })
    }
}

fn told(error: CaError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(service: Option<&str>, url: Option<&str>) -> Result<(Target, Vec<String>)> {
        let args = cli::Webhooks {
            webhook_listen: None,
            webhook_service: service.map(ToOwned::to_owned),
            webhook_url: url.map(ToOwned::to_owned),
            webhook_secret: String::new(),
        };
        args.target("home")
    }

    #[test]
    fn services_are_named_as_people_name_them() {
        let check = |text: &str, expected: Option<(&str, &str, u16)>| {
            let found = target(Some(text), None).ok().map(|(target, names)| {
                assert_eq!(names.len(), 2);
                target
            });
            let expected = expected.map(|(namespace, name, port)| Target::Service {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                port,
            });
            assert_eq!(found, expected, "{text}");
        };
        check("hub", Some(("home", "hub", 443)));
        check("hub:9443", Some(("home", "hub", 9443)));
        check("there/hub:9443", Some(("there", "hub", 9443)));
        for wrong in ["", "there/", "/hub", "a/b/c", "hub:port", "hub:"] {
            check(wrong, None);
        }
        let (_, names) = target(Some("there/hub"), None).unwrap();
        assert_eq!(names, ["hub.there.svc", "hub.there.svc.cluster.local"]);
    }

    #[test]
    fn urls_have_a_host_and_no_path() {
        let check = |url: &str, expected: Option<(&str, &str)>| {
            let found = target(None, Some(url)).ok();
            let expected =
                expected.map(|(url, host)| (Target::Url(url.to_owned()), vec![host.to_owned()]));
            assert_eq!(found, expected, "{url}");
        };
        check(
            "https://127.0.0.1:9443",
            Some(("https://127.0.0.1:9443", "127.0.0.1")),
        );
        check(
            "https://hub.example/",
            Some(("https://hub.example", "hub.example")),
        );
        check("https://[::1]:9443", Some(("https://[::1]:9443", "::1")));
        for wrong in [
            "http://127.0.0.1",
            "https://h/path",
            "127.0.0.1:9443",
            "https://",
            "",
        ] {
            check(wrong, None);
        }
    }
}
