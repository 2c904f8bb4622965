use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

struct Pem {
    ca: String,
    cert: String,
    key: String,
}

fn pem(name: Option<&str>, usages: &[ExtendedKeyUsagePurpose]) -> Pem {
    let ca_key = KeyPair::generate().expect("a key can be made");
    let mut ca = CertificateParams::new(Vec::new()).expect("no names are fine");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).expect("it signs itself");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key can be made");
    let mut leaf = CertificateParams::new(Vec::new()).expect("no names are fine");
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = name {
        leaf.distinguished_name.push(DnType::CommonName, name);
    }
    leaf.extended_key_usages = usages.to_vec();
    let cert = leaf.signed_by(&key, &issuer).expect("it is signed");
    Pem {
        ca: ca_cert.pem(),
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

fn identity(pem: &Pem) -> Result<Identity, IdentityError> {
    Identity::from_pem(pem.ca.as_bytes(), pem.cert.as_bytes(), pem.key.as_bytes())
}

#[test]
fn an_identity_is_checked_before_it_is_used() {
    let good = pem(Some("app"), &[ExtendedKeyUsagePurpose::ClientAuth]);
    let good_key = good.key.clone();
    let known = identity(&good).expect("it is in order");
    assert_eq!(known.name(), "app");
    let shown = format!("{known:?}");
    assert!(
        !shown.contains("PRIVATE") && shown.contains("app"),
        "{shown}"
    );
    assert!(
        identity(&pem(Some("app"), &[])).is_ok(),
        "no usage is any usage"
    );
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    assert_eq!(known.check(now), Ok(()));
    assert!(matches!(
        known.check(Timestamp::MAX),
        Err(IdentityError::Expired(..))
    ));
    assert!(matches!(
        known.check(Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_hours(24 * 365)),
        Err(IdentityError::NotYet(..))
    ));

    let other = pem(Some("app"), &[]);
    let mixed = Pem {
        key: other.key,
        ..good
    };
    assert!(matches!(identity(&mixed), Err(IdentityError::Key(_))));
    let server = pem(Some("app"), &[ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(matches!(
        identity(&server),
        Err(IdentityError::NotForClients)
    ));
    assert!(matches!(
        identity(&pem(None, &[])),
        Err(IdentityError::NoName)
    ));
    // A key where the certificate belongs, its lines joined: the error does not quote it.
    let swapped = Pem {
        ca: good_key.replace('\n', " "),
        ..pem(Some("app"), &[])
    };
    let error = identity(&swapped).expect_err("no PEM").to_string();
    let quoted = format!("{}, {}", good_key.as_bytes()[40], good_key.as_bytes()[41]);
    assert!(
        !error.contains(&quoted) && error.contains("END line"),
        "{error}"
    );
    let junk = Pem {
        ca: "junk".to_owned(),
        ..server
    };
    assert!(matches!(
        identity(&junk),
        Err(IdentityError::Pem("authority", _))
    ));
}

/// A build of the AMQP library without TLS would send `AMQP` here, in plain text.
#[tokio::test]
async fn amqps_speaks_tls_from_the_first_byte() {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a port");
    let port = listener.local_addr().expect("it is bound").port();
    let good = pem(Some("app"), &[]);
    let to = Destination {
        url: format!("amqps://127.0.0.1:{port}/%2Fpubsub"),
        identity: Some(Arc::new(identity(&good).expect("it is in order"))),
        client_properties: BTreeMap::new(),
    };
    let first = async {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        let mut bytes = [0; 3];
        stream
            .read_exact(&mut bytes)
            .await
            .expect("they speak first");
        bytes
    };
    let (bytes, connected) = tokio::join!(first, Publisher::connect(&to));
    assert_eq!(bytes[..2], [0x16, 0x03], "a ClientHello");
    assert!(connected.is_err(), "nobody answered");
}

#[tokio::test]
async fn a_refused_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let to = Destination {
        url: format!("amqp://127.0.0.1:{port}"),
        identity: None,
        client_properties: BTreeMap::new(),
    };
    let error = Publisher::connect(&to).await.expect_err("nobody listens");
    assert_eq!(error.verdict(), Verdict::Later, "{error}");
    let no_identity = Destination {
        url: format!("amqps://127.0.0.1:{port}"),
        ..to.clone()
    };
    let error = Publisher::connect(&no_identity)
        .await
        .expect_err("no certificate");
    assert_eq!(error, AmqpError::NoIdentity);
    let nonsense = Destination {
        url: "nonsense".to_owned(),
        ..to
    };
    let error = Publisher::connect(&nonsense).await.expect_err("no URL");
    assert_eq!(error.verdict(), Verdict::Never, "{error}");
}

#[test]
fn the_configuration_of_the_library_is_read() {
    let config = |text: &str| MessagingConfig::of_table(text.parse().expect("it is TOML"));
    let read = config(
        r#"
        amqp_url = "amqps://user:@host/%2Fpubsub"
        topic_prefix = "org.fedoraproject.stg"
        passive_declares = true
        [tls]
        ca_cert = "/ca.pem"
        certfile = "/cert.pem"
        keyfile = "/key.pem"
        [client_properties]
        app = "Example"
        [queues.x]
        durable = false
        "#,
    )
    .expect("it is valid");
    assert_eq!(read.publish_exchange, "amq.topic");
    assert_eq!(read.client_properties["app"], "Example");
    assert_eq!(
        read.tls.expect("there is a table").keyfile.to_str(),
        Some("/key.pem")
    );
    for (text, expected) in [
        ("amqp_ulr = 'x'", "amqp_ulr is no key"),
        ("amqp_url = 1", "amqp_url must be text"),
        ("[tls]\nca_cert = 'x'\nkeyfile = 'y'", "certfile is missing"),
        ("tls = 1", "tls must be a table"),
    ] {
        let error = config(text).expect_err(text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}
