use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn tls(&self) -> ClientTls {
        let file = |name| Pem::File(self.folder.path().join(name));
        ClientTls {
            identity: Some((file("crt"), file("key"))),
            refresh: Duration::from_millis(1),
            ..ClientTls::default()
        }
    }
}

/// Counts how often a file was looked at.
struct Counting(std::path::PathBuf, AtomicUsize);
impl PemSource for Counting {
    fn read(&self) -> std::io::Result<Vec<u8>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        std::fs::read(&self.0)
    }
    fn place(&self) -> String {
        "here".to_owned()
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_noticed_when_its_key_fits() {
    let files = Files::new();
    let (cert, key) = pair();
    files.write("crt", &cert);
    files.write("key", &key);
    let tls = files.tls();
    let used = tls.load().await.unwrap();
    used.client_config(&[]).unwrap();

    let (cert, key) = pair();
    let looks = Arc::new(Counting(
        files.folder.path().join("crt"),
        AtomicUsize::new(0),
    ));
    let source: Arc<dyn PemSource> = looks.clone();
    let tls = ClientTls {
        identity: Some((
            Pem::Other(source),
            Pem::File(files.folder.path().join("key")),
        )),
        ..tls
    };
    files.write("crt", &cert);
    let waiting = tls.renewed(&used);
    tokio::pin!(waiting);
    // The key is still the old one: looked at several times, and not taken.
    while looks.1.load(Ordering::SeqCst) < 3 {
        tokio::select! {
            () = &mut waiting => panic!("the key does not fit"),
            () = tokio::task::yield_now() => (),
        }
    }
    files.write("key", "nonsense");
    files.write("key", &key);
    waiting.await;
    tls.load().await.unwrap().client_config(&[]).unwrap();
}

#[test]
fn what_is_given_cannot_change() {
    let inline = |text: &str| Pem::Inline(text.as_bytes().to_vec());
    let tls = ClientTls {
        identity: Some((inline("c"), inline("k"))),
        ..ClientTls::default()
    };
    assert!(!tls.can_change());
    assert!(!ClientTls::default().can_change());
    assert!(Files::new().tls().can_change());
    assert!(!format!("{tls:?}").contains("Inline(["), "{tls:?}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    async fn check(tls: ClientTls, expected: &str) {
        let result = match tls.load().await {
            Ok(material) => material.client_config(&[]).map(drop),
            Err(error) => Err(error),
        };
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let inline = |text: &str| Pem::Inline(text.as_bytes().to_vec());
    let (cert, key) = pair();
    let (_, other) = pair();
    let with = |cert: &str, key: &str| ClientTls {
        identity: Some((inline(cert), inline(key))),
        ..ClientTls::default()
    };
    check(
        with("x", &key),
        "client certificate: no certificate in PEM form",
    )
    .await;
    check(with(&cert, "x"), "failed to read the client key").await;
    check(with(&cert, &other), "failed to use the client certificate").await;
    let ca = ClientTls {
        ca: Some(Pem::File("/nonexistent/ca".into())),
        ..ClientTls::default()
    };
    check(ca, "failed to read /nonexistent/ca: ").await;
    let ca = ClientTls {
        ca: Some(inline("no PEM")),
        ..ClientTls::default()
    };
    check(ca, "failed to read the CA").await;
}
