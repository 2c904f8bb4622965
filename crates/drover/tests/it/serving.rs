//! A hub that serves with certificates from files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use drover_testkit::pki::{Authority, Pair};
use drover_testkit::process::free_port;
use drover_testkit::{Process, eventually};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{LONG, program};

/// Begins to speak HTTP/2, believing one authority; an answer means that both sides believe each other.
async fn speak(port: u16, authority: &Path, client: &Pair) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(&client.cert)?],
            PrivateKeyDer::from_pem_file(&client.key)?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = "localhost".try_into()?;
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await?;
    ensure!(stream.read(&mut [0; 9]).await? > 0, "no answer");
    Ok(())
}

#[tokio::test]
async fn certificates_of_a_hub_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let kubeconfig = path("kubeconfig");
    let api = [
        "apiserver".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        format!("--write-kubeconfig={}", kubeconfig.display()),
    ];
    let mut api = Process::start("apiserver", program(), api, folder.path()).unwrap();
    api.wait_for(LONG, async || kubeconfig.exists())
        .await
        .unwrap();
    let (servers, clients, strangers) = (
        Authority::new(&path("servers")).unwrap(),
        Authority::new(&path("clients")).unwrap(),
        Authority::new(&path("strangers")).unwrap(),
    );
    let pair = servers.server("hub").unwrap();
    let known = clients.client("known", "somebody").unwrap();
    let stranger = strangers.client("stranger", "somebody").unwrap();
    let (cert, key, ca) = (pair.cert.display(), pair.key.display(), clients.ca());
    let yaml = path("server.yaml");
    let text = format!(
        "tls_cert_file: {cert}\ntls_key_file: {key}\nclient_ca_file: {}\ntls_min_version: VersionTLS13\n",
        ca.display()
    );
    std::fs::write(&yaml, text).unwrap();
    let by_flags = vec![
        format!("--tls-cert={cert}"),
        format!("--tls-key={key}"),
        format!("--client-ca={}", ca.display()),
    ];
    for flags in [
        by_flags,
        vec![format!("--server-config={}", yaml.display())],
    ] {
        let port = free_port().unwrap();
        let mut args = vec![
            "hub".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--data={}", path("hub").display()),
            format!("--listen=127.0.0.1:{port}"),
        ];
        args.extend(flags);
        let mut hub = Process::start("hub", program(), &args, folder.path()).unwrap();
        let spoken = async || speak(port, &servers.ca(), &known).await;
        eventually("an answer", LONG, spoken)
            .await
            .with_context(|| hub.log())
            .unwrap();
        assert!(
            speak(port, &servers.ca(), &stranger).await.is_err(),
            "a stranger is believed"
        );
        assert!(
            speak(port, &path("hub").join("ca.crt"), &known)
                .await
                .is_err(),
            "it shows its own"
        );
        assert_eq!(hub.terminate(LONG).unwrap(), Some(0));
    }
}
