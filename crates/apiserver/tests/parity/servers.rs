//! The two servers that every case is asked of: a real kube-apiserver and the embedded one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use drover_apiserver::auth::ca::Authority;
use drover_apiserver::auth::token::TokenKeys;
use drover_apiserver::auth::{Auth, Options, User};
use drover_apiserver::server::{ApiServer, Config};
use drover_apiserver::store::Database;
use drover_apiserver::tls;
use drover_testkit::{KubeApi, KubeOptions};
use jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the administrator of both servers shows.
pub(crate) const TOKEN: &str = "admin-token";
const ISSUER: &str = "https://kubernetes.default.svc";
/// What has a counterpart in the embedded server.
const CONTROLLERS: &str = "namespace-controller,serviceaccount-controller,garbage-collector-controller,root-ca-certificate-publisher-controller,\
     certificatesigningrequest-approving-controller,certificatesigningrequest-signing-controller,\
     clusterrole-aggregation-controller";

/// One of the two.
pub(crate) struct Server {
    /// For reports.
    pub(crate) name: &'static str,
    /// For programs.
    pub(crate) kubeconfig: PathBuf,
    /// Sends requests as they are: credentials are part of a case.
    pub(crate) client: kube::Client,
}

impl Server {
    async fn connect(name: &'static str, kubeconfig: PathBuf) -> Result<Self> {
        let file = Kubeconfig::read_from(&kubeconfig)?;
        let mut config =
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.auth_info = AuthInfo::default();
        let client = kube::Client::try_from(config)?;
        Ok(Self {
            name,
            kubeconfig,
            client,
        })
    }
}

/// Both; they end when this is dropped.
pub(crate) struct Servers {
    /// The judge.
    pub(crate) kube: Server,
    /// The judged.
    pub(crate) drover: Server,
    _peer: KubeApi,
    _embedded: Embedded,
}

impl Servers {
    /// Starts both, side by side.
    pub(crate) async fn start() -> Result<Self> {
        let options = KubeOptions {
            controllers: true,
            only: Some(CONTROLLERS),
            ..KubeOptions::default()
        };
        let (peer, embedded) = tokio::join!(KubeApi::start(options), Embedded::start());
        let (peer, embedded) = (peer?, embedded?);
        Ok(Self {
            kube: Server::connect("kube", peer.kubeconfig()).await?,
            drover: Server::connect("drover", embedded.kubeconfig()).await?,
            _peer: peer,
            _embedded: embedded,
        })
    }
}

struct Embedded {
    folder: TempDir,
    _stop: DropGuard,
}

impl Embedded {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let database = Database::open(&folder.path().join("data"))?;
        let store = database.store("main")?;
        let now = Timestamp::now();
        let authority = Arc::new(Authority::create(
            "drover",
            SignedDuration::from_hours(24),
            now,
        )?);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let groups = vec!["system:masters".to_owned()];
        let admin = User {
            name: "admin".to_owned(),
            uid: "admin".to_owned(),
            groups,
            ..User::default()
        };
        let options = Options {
            anonymous: true,
            tokens: vec![(TOKEN.to_owned(), admin)],
            issuer: ISSUER.to_owned(),
            audiences: vec![ISSUER.to_owned()],
            keys: TokenKeys::generate()?,
            authority: Some(Arc::clone(&authority)),
            clock: Arc::new(Timestamp::now),
        };
        let auth = Auth::new(store.clone(), options)?;
        let config = Config {
            external_address: address.clone(),
            root_ca: Some(authority.certificate_pem().into()),
            ..Config::default()
        };
        let server = ApiServer::new(store, auth, config);
        server
            .bootstrap()
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let url = format!("https://{address}");
        write_kubeconfig(
            &folder.path().join("admin.kubeconfig"),
            &url,
            authority.certificate_pem(),
        )?;
        let cancel = CancellationToken::new();
        tokio::spawn(tls::serve(
            listener,
            serving(&authority, now)?,
            server.clone(),
            cancel.clone(),
        ));
        let background = cancel.clone();
        tokio::spawn(async move {
            server.run(background).await;
            drop(database);
        });
        Ok(Self {
            folder,
            _stop: cancel.drop_guard(),
        })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }
}

fn serving(authority: &Authority, now: Timestamp) -> Result<tls::ReloadableTls> {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let issued = authority.issue_server(&names, SignedDuration::from_hours(24), now)?;
    Ok(tls::ReloadableTls::new(&tls::TlsFiles {
        certificate: issued.certificate,
        key: issued.key,
        client_ca: Some(authority.certificate_pem().to_owned()),
    })?)
}

fn write_kubeconfig(path: &Path, url: &str, authority: &str) -> Result<()> {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "peer",
        "clusters": [{"name": "peer", "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": "peer", "user": {"token": TOKEN}}],
        "contexts": [{"name": "peer", "context": {"cluster": "peer", "user": "peer"}}],
    });
    std::fs::write(path, text.to_string())
        .with_context(|| format!("failed to write {}", path.display()))
}
