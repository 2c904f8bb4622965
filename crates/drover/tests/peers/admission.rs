//! The rules of a hub as webhooks of a real kube-apiserver.

mod differential;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use drover_apiserver::auth::ca::Authority;
use drover_apiserver::tls::{self, ReloadableTls, TlsFiles};
use drover_hub::webhook::{Keeper, Lives, Pair, Pki, Place, Target, service};
use drover_runtime::clock::Clock;
use drover_testkit::process::free_port;
use drover_testkit::{KubeApi, KubeOptions, Process, eventually};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::judged::{self, Judged, merge};
use crate::world::{LONG, api, program, work};

const SECRET: &str = "drover-hub-webhook";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_judges_the_kinds_of_a_fleet() {
    let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
    let judged = Judged::prepare(&kube.kubeconfig()).await;
    let folder = tempfile::tempdir().unwrap();
    let webhooks = format!("127.0.0.1:{}", free_port().unwrap());
    let args = [
        "hub".to_owned(),
        format!("--kubeconfig={}", kube.kubeconfig().display()),
        format!("--data={}", folder.path().join("hub").display()),
        "--listen=127.0.0.1:0".to_owned(),
        format!("--webhook-listen={webhooks}"),
        format!("--webhook-url=https://{webhooks}"),
    ];
    let start = || Process::start("hub", program(), &args, folder.path()).unwrap();
    let mut hub = start();
    judged.wait_until_judged().await;
    judged::scenario(&judged).await;

    // Nobody answers: what would be judged is refused, and what would not goes on.
    hub.kill();
    let works = judged::works(&judged.admin, "one");
    let made = judged::object(work("later", "one", &[crate::world::config_map("a", "1")]));
    let refused = works.create(&kube::api::PostParams::default(), &made).await;
    let Err(kube::Error::Api(status)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        status.code == 500 && status.message.contains("manifestworkvalidators"),
        "{status:?}"
    );
    let finalizers = json!({"metadata": {"finalizers": ["example.com/f"]}});
    merge(&works, "w", finalizers.clone()).await.unwrap();
    merge(&judged::clusters(&judged.admin), "two", finalizers)
        .await
        .unwrap();
    // Another start is another process with the same certificates.
    let _hub = start();
    let check = async || {
        Ok(works
            .create(&kube::api::PostParams::default(), &made)
            .await?)
    };
    eventually("the hub to answer again", LONG, check)
        .await
        .unwrap();
}

/// Certificates as the program makes them.
struct Authorities;

impl Pki for Authorities {
    fn authority(&self, name: &str, life: SignedDuration, now: Timestamp) -> Result<Pair, String> {
        let made = Authority::create(name, life, now).map_err(|error| error.to_string())?;
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
        let authority = Authority::from_pem(&authority.certificate, &authority.key);
        let issued = authority.and_then(|authority| authority.issue_server(names, life, now));
        let issued = issued.map_err(|error| error.to_string())?;
        Ok(Pair {
            certificate: issued.certificate,
            key: issued.key,
        })
    }
}

/// A replica of the webhook server in this process, with a clock of its own.
struct Replica {
    stop: CancellationToken,
    shown: Arc<Mutex<Vec<Pair>>>,
}

impl Replica {
    async fn start(client: &Client, port: u16, url: &str, clock: Clock, lives: Lives) -> Self {
        let (stop, shown) = (CancellationToken::new(), Arc::<Mutex<Vec<Pair>>>::default());
        let keeper = Keeper {
            client: client.clone(),
            clock: clock.clone(),
            target: Target::Url(url.to_owned()),
            names: vec!["127.0.0.1".to_owned()],
            secret: Place {
                namespace: "hub".to_owned(),
                name: SECRET.to_owned(),
            },
            lives,
            period: Duration::from_millis(200),
            policy: drover_core::admission::Policy::default(),
            pki: Arc::new(Authorities),
        };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let router = service(client.clone(), keeper.policy, clock);
        let (ready, first) = tokio::sync::oneshot::channel::<ReloadableTls>();
        let (mut ready, mut current) = (Some(ready), None::<ReloadableTls>);
        let noted = shown.clone();
        let show = move |pair: &Pair| {
            noted.lock().unwrap().push(pair.clone());
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
            ready
                .take()
                .unwrap()
                .send(made)
                .map_err(|_| "gone".to_owned())
        };
        tokio::spawn(keeper.run(show, stop.clone()));
        let end = stop.clone();
        tokio::spawn(async move {
            if let Ok(tls) = first.await {
                tls::serve(listener, tls, router, end).await;
            }
        });
        Self { stop, shown }
    }

    fn shown(&self) -> Vec<String> {
        let all = self.shown.lock().unwrap();
        all.iter().map(|pair| pair.certificate.clone()).collect()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The authorities in a Secret, PEM.
async fn authorities(admin: &Client) -> anyhow::Result<Vec<String>> {
    use k8s_openapi::api::core::v1::Secret;
    let secrets: kube::Api<Secret> = kube::Api::namespaced(admin.clone(), "hub");
    let secret = secrets.get(SECRET).await?;
    let data = secret.data.context("it is empty")?;
    let text = String::from_utf8(data["authorities.crt"].0.clone())?;
    Ok(text
        .split_inclusive("-----END CERTIFICATE-----\n")
        .map(ToOwned::to_owned)
        .collect())
}

/// What the API server is told to trust: the same in all webhooks.
async fn bundle(admin: &Client) -> anyhow::Result<String> {
    let mut bundles = Vec::new();
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        let all = api(
            admin,
            &format!("admissionregistration.k8s.io/v1/{kind}"),
            None,
        );
        let found = all.get("drover-hub").await?;
        bundles.extend(drover_core::admission::webhooks::bundles(&found.data));
    }
    ensure!(
        bundles.len() == 5 && bundles.iter().all(|one| *one == bundles[0]),
        "{bundles:?}"
    );
    Ok(bundles.remove(0))
}

async fn made_namespace(admin: &Client) {
    let hub = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hub"}});
    crate::world::apply(&api(admin, "v1/Namespace", None), &hub)
        .await
        .unwrap();
}

/// What the webhook server may do, and no more.
async fn least(judged: &Judged) -> Client {
    let rules: Vec<Value> = vec![
        json!({"apiGroups": ["admissionregistration.k8s.io"], "verbs": ["get", "patch", "create"], "resourceNames": ["drover-hub"],
            "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]}),
        json!({"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}),
        json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}),
        // In a role of the hub's namespace.
        json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}),
        json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET], "verbs": ["get", "update"]}),
    ];
    judged.allow("webhooks", &["hub"], rules).await;
    judged.as_user("hub").await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_certificates_and_renew_them_while_they_serve() {
    let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
    let judged = Judged::prepare(&kube.kubeconfig()).await;
    made_namespace(&judged.admin).await;
    let client = least(&judged).await;
    let day = 24 * 3600;
    // Certificates were made 250 days ago, and what signed them has 50 of 300 left.
    let offset = Arc::new(AtomicI64::new(-250 * day));
    let lives = Lives {
        authority: SignedDuration::from_hours(24 * 300),
        serving: SignedDuration::from_hours(24 * 270),
        settle: SignedDuration::from_hours(1),
    };
    let shift = offset.clone();
    let clock = Clock::new(move || {
        let seconds = shift.load(Ordering::Relaxed);
        Timestamp::now() + SignedDuration::from_secs(seconds)
    });
    let (port, other) = (free_port().unwrap(), free_port().unwrap());
    let url = format!("https://127.0.0.1:{port}");
    let (one, two) = tokio::join!(
        Replica::start(&client, port, &url, clock.clone(), lives),
        Replica::start(&client, other, &url, clock.clone(), lives)
    );
    judged.wait_until_judged().await;
    let old = authorities(&judged.admin).await.unwrap();
    assert_eq!(old.len(), 1);
    let agreed = async || {
        ensure!(
            one.shown().last() == two.shown().last() && !one.shown().is_empty(),
            "they differ"
        );
        Ok(())
    };
    eventually("both replicas to show one certificate", LONG, agreed)
        .await
        .unwrap();
    let first = one.shown().last().cloned().unwrap();

    // A second authority is made known before it signs.
    offset.store(-7200, Ordering::Relaxed);
    let check = async || {
        let now = authorities(&judged.admin).await?;
        ensure!(
            now.len() == 2 && now[0] == old[0] && bundle(&judged.admin).await? == now.concat(),
            "{now:?}"
        );
        Ok(now)
    };
    let both = eventually("a second authority", LONG, check).await.unwrap();
    judged.wait_until_judged().await;
    offset.store(0, Ordering::Relaxed);
    let signed = async || {
        let certificate = one.shown().last().cloned().unwrap_or_default();
        let by_new = signed_by(&certificate, &both[1]);
        ensure!(
            certificate != first && by_new && two.shown().last() == Some(&certificate),
            "it is the old one"
        );
        Ok(())
    };
    eventually("a certificate of the second authority", LONG, signed)
        .await
        .unwrap();
    judged.wait_until_judged().await;
    offset.store(7200, Ordering::Relaxed);
    let check = async || {
        ensure!(
            bundle(&judged.admin).await? == both[1],
            "the old one is trusted"
        );
        Ok(())
    };
    eventually("the first authority to be forgotten", LONG, check)
        .await
        .unwrap();
    judged.wait_until_judged().await;

    // Whatever is taken away or bent comes back.
    let configurations = api(
        &judged.admin,
        "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration",
        None,
    );
    let secrets = api(&judged.admin, "v1/Secret", Some("hub"));
    let gone = kube::api::DeleteParams::default();
    secrets.delete(SECRET, &gone).await.unwrap();
    configurations.delete("drover-hub", &gone).await.unwrap();
    let check = async || {
        ensure!(
            bundle(&judged.admin).await? == authorities(&judged.admin).await?.concat(),
            "they differ"
        );
        ensure!(
            authorities(&judged.admin).await? == [both[1].clone()],
            "there are new ones"
        );
        Ok(())
    };
    eventually("everything to be there again", LONG, check)
        .await
        .unwrap();
    judged.wait_until_judged().await;
}

fn signed_by(certificate: &str, authority: &str) -> bool {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let der = |text: &str| {
        x509_parser::pem::parse_x509_pem(text.as_bytes())
            .unwrap()
            .1
            .contents
    };
    let (certificate, authority) = (der(certificate), der(authority));
    let (_, certificate) = X509Certificate::from_der(&certificate).unwrap();
    let (_, authority) = X509Certificate::from_der(&authority).unwrap();
    certificate
        .verify_signature(Some(authority.public_key()))
        .is_ok()
}
