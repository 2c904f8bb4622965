//! The API server asks the hub through the Service that is printed, also while the certificates of the hub are renewed.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use drover_apiserver::auth::ca::Authority;
use drover_testkit::eventually;
use drover_testkit::kube_api::Asked;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, CLUSTER, HUB_SPACE};
use crate::world::{LONG, api, apply, config_map, work, works};

const SECRET: &str = "drover-hub-webhook";
const VERSION: &str = "admissionregistration.k8s.io/v1";
/// A copy looks at the certificates every half minute.
const LOOKS: std::time::Duration = LONG.saturating_mul(3);

/// Both configurations, as the hub wrote them.
async fn configurations(hub: &Client) -> Result<[DynamicObject; 2]> {
    let kinds = [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ];
    let [one, other] = kinds.map(|kind| api(hub, &format!("{VERSION}/{kind}"), None));
    Ok([one.get("drover-hub").await?, other.get("drover-hub").await?])
}

/// How the API server finds each webhook.
fn clients(configuration: &DynamicObject) -> Vec<&Value> {
    let webhooks = configuration.data["webhooks"].as_array();
    let all: Vec<&Value> = webhooks
        .into_iter()
        .flatten()
        .map(|webhook| &webhook["clientConfig"])
        .collect();
    assert!(!all.is_empty(), "{configuration:?}");
    all
}

/// Writes good and bad works until it is told to stop; the answer is how many of each.
async fn press(shop: Api<DynamicObject>, stop: CancellationToken) -> usize {
    let map = config_map("pressed", "1");
    let mut rounds = 0;
    while !stop.is_cancelled() {
        let good = config_map("pressed", &rounds.to_string());
        let good = work("pressed", CLUSTER, &[good]);
        apply(&shop, &good).await.unwrap();
        let twice = work("twice", CLUSTER, &[map.clone(), map.clone()]);
        let answer = apply(&shop, &twice).await.map(|_| ());
        let said = format!("{:?}", answer.unwrap_err());
        assert!(
            said.contains("denied the request") && said.contains("400"),
            "{said}"
        );
        rounds += 1;
        // Faster than any change of certificates, and no faster than two processors can follow.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    rounds
}

/// Puts an authority beside the one that there is, and a serving certificate that will not live long. The answer is the new authority.
async fn age(secrets: &Api<Secret>) -> Authority {
    let found = secrets.get(SECRET).await.unwrap();
    let data = found.data.unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    let (authorities, keys) = (text("authorities.crt"), text("authorities.key"));
    let old = Authority::from_pem(&authorities, &keys).unwrap();
    let early = Timestamp::now().checked_sub(2.hours()).unwrap();
    let life = SignedDuration::from_hours(24 * 365);
    let new = Authority::create("newcomer", life, early).unwrap();
    let names = ["svc", "svc.cluster.local"].map(|end| format!("{SECRET}.{HUB_SPACE}.{end}"));
    let soon_over = SignedDuration::from_mins(150);
    let serving = old.issue_server(&names, soon_over, early).unwrap();
    let aged = [
        ("tls.crt", serving.certificate),
        ("tls.key", serving.key),
        ("authorities.crt", authorities + new.certificate_pem()),
        ("authorities.key", keys + &new.key_pem()),
    ];
    let aged = aged.map(|(key, text)| (key, ByteString(text.into_bytes())));
    let patch = Patch::Merge(json!({"data": std::collections::BTreeMap::from(aged)}));
    let params = PatchParams::default();
    secrets.patch(SECRET, &params, &patch).await.unwrap();
    new
}

/// Whether the server at an address shows a certificate of this authority for the name of the Service.
async fn shows(address: SocketAddr, authority: &Authority) -> Result<()> {
    let mut roots = RootCertStore::empty();
    let pem = authority.certificate_pem().as_bytes();
    roots.add(CertificateDer::from_pem_slice(pem)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(format!("{SECRET}.{HUB_SPACE}.svc"))?;
    let stream = TcpStream::connect(address).await?;
    connector.connect(name, stream).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_judges_through_its_service_and_renewed_certificates_go_unnoticed() {
    let bed = Bed::start(true).await;
    for configuration in &configurations(&bed.hub).await.unwrap() {
        for client in clients(configuration) {
            let service = &client["service"];
            let named = [&service["namespace"], &service["name"], &service["port"]];
            assert_eq!(named, [&json!(HUB_SPACE), &json!(SECRET), &json!(443)]);
            assert!(client["url"].is_null(), "{client}");
        }
    }
    let before = bed.hub_api.served();
    assert!(before > 0, "nobody was asked through the Service");

    let stop = CancellationToken::new();
    let pressing = tokio::spawn(press(works(&bed.hub, CLUSTER), stop.clone()));
    let secrets: Api<Secret> = Api::namespaced(bed.hub.clone(), HUB_SPACE);
    let newcomer = age(&secrets).await;
    let pem = newcomer.certificate_pem();
    let trusted = async || {
        use base64::Engine as _;
        for configuration in &configurations(&bed.hub).await? {
            for client in clients(configuration) {
                let bundle = client["caBundle"].as_str().unwrap_or_default();
                let bundle = base64::engine::general_purpose::STANDARD.decode(bundle)?;
                ensure!(String::from_utf8(bundle)?.contains(pem.trim_end()));
            }
        }
        Ok(())
    };
    let trusted = eventually("the API to trust the newcomer", LOOKS, trusted);
    trusted.await.unwrap();
    for address in bed.doors.webhooks() {
        let shown = async || shows(address, &newcomer).await;
        let shown = eventually("the new certificate", LOOKS, shown).await;
        shown.unwrap();
    }
    // The API server does not keep its old connections for ever: what it opens now meets the new certificate.
    let opened = bed.hub_api.served();
    assert!(opened > before, "no new connection");
    stop.cancel();
    assert!(pressing.await.unwrap() > 10);
    let asked = bed.hub_api.asked().unwrap();
    let renewed =
        |one: &Asked| (&*one.verb, &*one.resource, one.code) == ("update", "secrets", 200);
    assert!(asked.iter().any(renewed), "{asked:?}");
    bed.stop().await;
}
