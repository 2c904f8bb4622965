use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::auth::ca::{Authority, Issued};

const LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Says which protocol was spoken and what the client's certificate names.
async fn whoami(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let peer = request.extensions().get::<PeerCertificates>();
    let name = peer.map(|peer| {
        let (_, leaf) = X509Certificate::from_der(&peer.0[0]).expect("a certificate");
        leaf.subject().to_string()
    });
    let text = format!(
        "{:?} {}",
        request.version(),
        name.unwrap_or_else(|| "nobody".to_owned())
    );
    Ok(Response::new(Full::new(Bytes::from(text))))
}

struct Running {
    address: SocketAddr,
    cancel: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

async fn start(tls: Option<ReloadableTls>, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let cancel = CancellationToken::new();
    let service = tower::service_fn(whoami);
    let server = tokio::spawn(serve_with(listener, tls, service, cancel.clone(), limits));
    Running {
        address,
        cancel,
        server,
    }
}

fn authority() -> Authority {
    Authority::create("ca", LIFE, Timestamp::now()).expect("an authority")
}

fn files(ca: &Authority, clients: &Authority) -> TlsFiles {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = ca
        .issue_server(&names, LIFE, Timestamp::now())
        .expect("a certificate");
    TlsFiles {
        certificate: server.certificate,
        key: server.key,
        client_ca: Some(clients.certificate_pem().to_owned()),
    }
}

async fn connect(
    address: SocketAddr,
    ca: &Authority,
    client: Option<&Issued>,
    protocol: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain =
                vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn request() -> Request<Full<Bytes>> {
    Request::get("https://localhost/x")
        .body(Full::default())
        .expect("a request")
}

async fn text(response: Response<Incoming>) -> String {
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

async fn ask(
    address: SocketAddr,
    ca: &Authority,
    client: Option<&Issued>,
    protocol: &str,
) -> Result<String, BoxError> {
    let stream = TokioIo::new(connect(address, ca, client, protocol).await?);
    if protocol == "h2" {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        let driver = tokio::spawn(connection);
        let answer = text(sender.send_request(request()).await?).await;
        driver.abort();
        return Ok(answer);
    }
    let (mut sender, connection) = http1::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let answer = text(sender.send_request(request()).await?).await;
    driver.abort();
    Ok(answer)
}

#[tokio::test]
async fn clients_with_and_without_certificate() {
    let ca = authority();
    let tls = ReloadableTls::new(&files(&ca, &ca)).expect("settings");
    let running = start(Some(tls.clone()), Limits::default()).await;
    let groups = ["a".to_owned(), "b".to_owned()];
    let client = ca
        .issue_client("ann", &groups, LIFE, Timestamp::now())
        .expect("a certificate");
    let stranger = authority();
    let foreign = stranger
        .issue_client("eve", &[], LIFE, Timestamp::now())
        .expect("a certificate");

    let answer = |client, protocol| ask(running.address, &ca, client, protocol);
    assert_eq!(
        answer(None, "h2").await.expect("an answer"),
        "HTTP/2.0 nobody"
    );
    assert_eq!(
        answer(None, "http/1.1").await.expect("an answer"),
        "HTTP/1.1 nobody"
    );
    assert_eq!(
        answer(Some(&client), "h2").await.expect("an answer"),
        "HTTP/2.0 O=a, O=b, CN=ann"
    );
    assert_eq!(
        answer(Some(&client), "http/1.1").await.expect("an answer"),
        "HTTP/1.1 O=a, O=b, CN=ann"
    );
    answer(Some(&foreign), "h2")
        .await
        .expect_err("not our client");
    ask(running.address, &stranger, None, "h2")
        .await
        .expect_err("not our server");

    // New settings are for new connections.
    tls.reload(&files(&stranger, &stranger)).expect("settings");
    let changed = ask(running.address, &stranger, Some(&foreign), "h2")
        .await
        .expect("an answer");
    assert_eq!(changed, "HTTP/2.0 CN=eve");
    tls.reload(&TlsFiles::default()).expect_err("nothing in it");
    ask(running.address, &stranger, None, "h2")
        .await
        .expect("still the last settings");

    running.cancel.cancel();
    running.server.await.expect("stopped");
    TcpStream::connect(running.address)
        .await
        .expect_err("closed");
}

#[tokio::test]
async fn without_tls() {
    let running = start(None, Limits::default()).await;
    let stream = TcpStream::connect(running.address)
        .await
        .expect("a connection");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let driver = tokio::spawn(connection);
    let answer = text(sender.send_request(request()).await.expect("an answer")).await;
    assert_eq!(answer, "HTTP/1.1 nobody");
    let stream = TcpStream::connect(running.address)
        .await
        .expect("a connection");
    let prior = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = prior.await.expect("HTTP");
    let second = tokio::spawn(connection);
    let answer = text(sender.send_request(request()).await.expect("an answer")).await;
    assert_eq!(answer, "HTTP/2.0 nobody");
    // Idle connections end when the server does; nobody has to wait for them.
    running.cancel.cancel();
    running.server.await.expect("stopped");
    driver.await.expect("ended").expect("cleanly");
    second.await.expect("ended").expect("cleanly");
}

#[tokio::test]
async fn the_silent_are_sent_away() {
    let short = Duration::from_millis(50);
    let limits = Limits {
        handshake: short,
        first: short,
        idle: short,
        ..Limits::default()
    };
    let ca = authority();
    let tls = ReloadableTls::new(&files(&ca, &ca)).expect("settings");
    for (tls, first) in [
        (None, ""),
        (None, "PRI * HT"),
        (None, "GET / HTTP/1.1\r\nHost:"),
        (Some(tls), ""),
    ] {
        let running = start(tls, limits).await;
        let mut stream = TcpStream::connect(running.address)
            .await
            .expect("a connection");
        stream.write_all(first.as_bytes()).await.expect("written");
        let mut rest = Vec::new();
        // Ends, or is reset: it does not hang.
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
        drop(ended.await.expect("sent away"));
        running.cancel.cancel();
        running.server.await.expect("stopped");
    }
}

#[tokio::test]
async fn who_has_asked_may_wait_with_the_next_request() {
    let limits = Limits {
        first: Duration::from_millis(50),
        ..Limits::default()
    };
    let running = start(None, limits).await;
    let stream = TcpStream::connect(running.address)
        .await
        .expect("a connection");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let driver = tokio::spawn(connection);
    for _ in 0..2 {
        let answer = text(sender.send_request(request()).await.expect("an answer")).await;
        assert_eq!(answer, "HTTP/1.1 nobody");
        tokio::time::sleep(limits.first * 4).await;
    }
    running.cancel.cancel();
    running.server.await.expect("stopped");
    driver.await.expect("ended").expect("cleanly");
    let (longest, clients) = (Limits::default().idle, Duration::from_secs(90));
    assert!(longest > clients, "clients hang up after {clients:?}");
}

#[tokio::test]
async fn what_never_ends_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let cancel = CancellationToken::new();
    let stuck = tower::service_fn(|_request: Request<Incoming>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let limits = Limits {
        drain: Duration::from_millis(20),
        ..Limits::default()
    };
    let server = tokio::spawn(serve_with(listener, None, stuck, cancel.clone(), limits));
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let driver = tokio::spawn(connection);
    let answer = tokio::spawn(async move { sender.send_request(request()).await });
    cancel.cancel();
    server.await.expect("stopped");
    answer.await.expect("ended").expect_err("cut");
    drop(driver.await.expect("ended"));
}
