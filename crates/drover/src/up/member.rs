//! One embedded Kubernetes API: its store, its authority, its listener, its controllers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use drover_apiserver::auth::ca::Authority;
use drover_apiserver::auth::{Auth, Options, User};
use drover_apiserver::server::{ApiServer, Config};
use drover_apiserver::store::Database;
use drover_apiserver::tls;
use drover_runtime::supervise::Tasks;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::folder::Folder;
use super::messages::MessageRules;
use crate::admission::Rules;

/// How long the certificate of a listener lives; it is made anew at every start.
const SERVING_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);

/// One embedded API that serves.
pub struct Member {
    /// Its name, which is its context in the kubeconfig.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Signs its clients.
    pub authority: Arc<Authority>,
    /// A client in process, for the controllers.
    pub client: Client,
    /// The administrator's token.
    token: String,
}

impl Member {
    /// Starts everything; the tasks go on until they are cancelled.
    pub async fn start(
        name: &str,
        database: &Database,
        folder: &mut Folder,
        listener: TcpListener,
        tasks: &mut Tasks,
    ) -> Result<Self> {
        let now = Timestamp::now();
        let address = listener.local_addr()?;
        let store = database.store(name)?;
        let authority = Arc::new(folder.authority(name, now)?);
        let token = folder.token(name);
        let url = format!("https://{address}");
        let options = Options {
            anonymous: true,
            tokens: vec![(token.clone(), administrator("kubernetes-admin"))],
            issuer: url.clone(),
            audiences: vec![url],
            keys: folder.account_keys(name)?,
            authority: Some(authority.clone()),
            clock: Arc::new(Timestamp::now),
        };
        let auth = Auth::new(store.clone(), options)?;
        let config = Config {
            external_address: address.to_string(),
            root_ca: Some(authority.certificate_pem().into()),
            admission: vec![Rules::new(&auth, &store), Arc::new(MessageRules)],
            ..Config::default()
        };
        let server = ApiServer::new(store, auth, config);
        let failed = |error: Box<drover_apiserver::status::ApiError>| anyhow!("{error}");
        server
            .bootstrap()
            .await
            .map_err(failed)
            .with_context(|| format!("failed to prepare the API of {name}"))?;
        let cancel = tasks.cancel_token();
        let tls = serving(&authority, address, now)?;
        tasks.run(
            format!("API of {name}"),
            tls::serve(listener, tls, server.clone(), cancel.clone()),
        );
        let background = server.clone();
        tasks.run(format!("controllers of {name}"), async move {
            background.run(cancel).await;
        });
        let service = server.acting_as(administrator(&format!("system:drover:{name}")));
        let client = Client::new(service, "default");
        Ok(Self {
            name: name.to_owned(),
            address,
            authority,
            client,
            token,
        })
    }

    /// Its entries in a kubeconfig: cluster, user and context.
    fn entries(&self) -> [Value; 3] {
        let ca = base64::engine::general_purpose::STANDARD.encode(self.authority.certificate_pem());
        [
            json!({"name": self.name, "cluster": {
                "server": format!("https://{}", self.address), "certificate-authority-data": ca}}),
            json!({"name": self.name, "user": {"token": self.token}}),
            json!({"name": self.name, "context": {"cluster": self.name, "user": self.name, "namespace": "default"}}),
        ]
    }
}

/// A kubeconfig with one context for each member.
pub fn kubeconfig(members: &[&Member], current: &str) -> Value {
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    for member in members {
        for (list, entry) in lists.iter_mut().zip(member.entries()) {
            list.push(entry);
        }
    }
    let [clusters, users, contexts] = lists;
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": current,
        "clusters": clusters, "users": users, "contexts": contexts,
    })
}

fn administrator(name: &str) -> User {
    User {
        name: name.to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..User::default()
    }
}

fn serving(
    authority: &Authority,
    address: SocketAddr,
    now: Timestamp,
) -> Result<tls::ReloadableTls> {
    let issued = authority.issue_server(&host_names(address), SERVING_LIFE, now)?;
    Ok(tls::ReloadableTls::new(&tls::TlsFiles {
        certificate: issued.certificate,
        key: issued.key,
        client_ca: Some(authority.certificate_pem().to_owned()),
    })?)
}

/// What clients may call a listener.
pub fn host_names(address: SocketAddr) -> Vec<String> {
    let mut names = vec![
        address.ip().to_string(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    names.dedup();
    names
}
