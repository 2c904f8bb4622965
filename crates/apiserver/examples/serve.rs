//! Serves a Kubernetes API over TLS and writes a kubeconfig for it.
//!
//! `serve KUBECONFIG [DATA]`: in memory, or durable in the folder DATA.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drover_apiserver::auth::ca::Authority;
use drover_apiserver::auth::token::TokenKeys;
use drover_apiserver::auth::{Auth, Options, User};
use drover_apiserver::server::{ApiServer, Config};
use drover_apiserver::store::Database;
use drover_apiserver::tls;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let kubeconfig = arguments.next().ok_or("usage: serve KUBECONFIG [DATA]")?;
    let database = match arguments.next() {
        Some(folder) => Database::open(&folder)?,
        None => Database::memory(),
    };
    let store = database.store("main")?;
    let now = Timestamp::now();
    let authority = Arc::new(Authority::create(
        "drover",
        SignedDuration::from_hours(24 * 365),
        now,
    )?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let token = uuid::Uuid::new_v4().to_string();
    let admin = User {
        name: "admin".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..User::default()
    };
    let options = Options {
        anonymous: true,
        tokens: vec![(token.clone(), admin)],
        issuer: format!("https://{address}"),
        audiences: vec![format!("https://{address}")],
        keys: TokenKeys::generate()?,
        authority: Some(Arc::clone(&authority)),
        clock: Arc::new(Timestamp::now),
    };
    let auth = Auth::new(store.clone(), options)?;
    let config = Config {
        external_address: address.to_string(),
        root_ca: Some(authority.certificate_pem().into()),
        ..Config::default()
    };
    let server = ApiServer::new(store, auth, config);
    server.bootstrap().await?;
    write_kubeconfig(
        &kubeconfig,
        &address.to_string(),
        authority.certificate_pem(),
        &token,
    )?;
    let cancel = CancellationToken::new();
    let tls = serving(&authority, now)?;
    let background = server.clone();
    let serving = tls::serve(listener, tls, server, cancel.clone());
    tokio::select! {
        () = serving => {}
        () = background.run(cancel.clone()) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    cancel.cancel();
    database.close()?;
    Ok(())
}

fn write_kubeconfig(
    path: &Path,
    address: &str,
    authority: &str,
    token: &str,
) -> Result<(), Box<dyn Error>> {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "clusters": [{"name": "main", "cluster": {
            "server": format!("https://{address}"), "certificate-authority-data": authority,
        }}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "main", "context": {"cluster": "main", "user": "admin"}}],
    });
    drover_apiserver::auth::ca::write_private(path, &text.to_string())?;
    Ok(())
}

fn serving(authority: &Authority, now: Timestamp) -> Result<tls::ReloadableTls, Box<dyn Error>> {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let issued = authority.issue_server(&names, SignedDuration::from_hours(24 * 90), now)?;
    Ok(tls::ReloadableTls::new(&tls::TlsFiles {
        certificate: issued.certificate,
        key: issued.key,
        client_ca: Some(authority.certificate_pem().to_owned()),
    })?)
}
