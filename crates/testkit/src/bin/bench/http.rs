//! A client that costs little: one HTTP/1.1 connection over TLS, kept alive.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where a server is, and how its administrator is known to it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    address: String,
    tls: Arc<ClientConfig>,
    token: String,
}

impl Endpoint {
    /// A context of a kubeconfig that is written as JSON; the current one when none is named.
    pub(crate) fn read(file: &Path, context: Option<&str>) -> Result<Self> {
        let config: Value = serde_json::from_slice(&fs::read(file)?)?;
        let current = config["current-context"].as_str().unwrap_or_default();
        let context = named(&config["contexts"], context.unwrap_or(current))?;
        let context = &context["context"];
        let cluster = named(&config["clusters"], text(&context["cluster"])?)?;
        let user = named(&config["users"], text(&context["user"])?)?;
        let address = text(&cluster["cluster"]["server"])?
            .trim_start_matches("https://")
            .to_owned();
        let encoded = text(&cluster["cluster"]["certificate-authority-data"])?;
        let pem = base64::engine::general_purpose::STANDARD.decode(encoded)?;
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&pem).context("the authority is not readable")?)?;
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let token = text(&user["user"]["token"])?.to_owned();
        Ok(Self {
            address,
            tls: Arc::new(tls),
            token,
        })
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let host = self
            .address
            .rsplit_once(':')
            .map_or(&*self.address, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // A connection that breaks is told to the one who asks next.
        drop(tokio::spawn(connection));
        Ok(Connection {
            endpoint: self.clone(),
            sender,
        })
    }
}

fn named<'v>(list: &'v Value, name: &str) -> Result<&'v Value> {
    let mut entries = list.as_array().into_iter().flatten();
    entries
        .find(|entry| entry["name"] == name)
        .with_context(|| format!("the kubeconfig knows no {name:?}"))
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .context("the kubeconfig has another shape than expected")
}

/// One connection; one request at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: Endpoint,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Sends a request; its answer may go on for long.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Incoming> {
        self.send(method, path, "application/json", body.into())
            .await
    }

    /// Server-side applies an object.
    pub(crate) async fn apply(&mut self, path: &str, object: impl Into<Bytes>) -> Result<Bytes> {
        let kind = "application/apply-patch+yaml";
        let answer = self.send(Method::PATCH, path, kind, object.into()).await?;
        Ok(answer.collect().await?.to_bytes())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Incoming> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.endpoint.address)
            .header(AUTHORIZATION, format!("Bearer {}", self.endpoint.token))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        if !status.is_success() {
            let answer = response.into_body().collect().await?.to_bytes();
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(response.into_body())
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes> {
        let answer = self.open(method, path, body).await?.collect().await?;
        Ok(answer.to_bytes())
    }

    /// Makes an object; one that is there already is an error.
    pub(crate) async fn create(&mut self, path: &str, object: impl Into<Bytes>) -> Result<()> {
        let answer = self.call(Method::POST, path, object).await?;
        ensure!(!answer.is_empty(), "{path}: an empty answer");
        Ok(())
    }
}
