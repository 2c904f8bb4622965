//! A real kube-apiserver on etcd, with or without the controllers of a control plane.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;
use tempfile::TempDir;

use crate::process::{Process, free_port, program};

const TOKEN: &str = "admin-token";
const CONTROLLERS: &str = "*,-node-ipam-controller,-node-route-controller,-service-lb-controller,\
     -cloud-node-lifecycle-controller,-node-lifecycle-controller";
const START: Duration = Duration::from_secs(90);

/// What runs beside the API server.
#[derive(Clone, Copy, Debug, Default)]
pub struct KubeOptions {
    /// kube-controller-manager: garbage collection, namespaces, certificates, service accounts.
    pub controllers: bool,
    /// Which of the controllers, as kube-controller-manager's flag `--controllers` has it; all but those of clouds
    /// and nodes by default.
    pub only: Option<&'static str>,
    /// A namespace: everything that its service accounts ask for is written down, see [`KubeApi::asked`]. Whoever names an
    /// owner that is kept must be allowed to write finalizers of that owner, as some distributions of Kubernetes have it.
    pub audit: Option<&'static str>,
}

/// What a service account asked for, or what was asked about it in an access review of another account of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Name of the account.
    pub account: String,
    /// `get`, `create` … A patch that made its object is a `create` too: the API asks for both.
    pub verb: String,
    /// Group of the kind; empty for the core group.
    pub group: String,
    /// Plural of the kind, with the subresource: `pods/status`. A path for what is no resource.
    pub resource: String,
    /// What the API answered; 200 or 403 for what was asked in a review.
    pub code: u64,
}

/// A control plane in processes of its own; everything ends when it is dropped.
#[derive(Debug)]
pub struct KubeApi {
    processes: Vec<Process>,
    folder: TempDir,
    url: String,
}

impl KubeApi {
    /// Starts a fresh, empty control plane and waits until it serves.
    ///
    /// # Errors
    /// When a peer is not built or does not come up.
    pub async fn start(options: KubeOptions) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pki = Pki::write(folder.path())?;
        let (client, peer, port) = (free_port()?, free_port()?, free_port()?);
        let url = format!("https://127.0.0.1:{port}");
        write_kubeconfig(
            &folder.path().join("admin.kubeconfig"),
            &url,
            &pki.ca,
            json!({"token": TOKEN}),
        )?;
        let mut kube = Self {
            processes: Vec::new(),
            folder,
            url,
        };
        kube.start_etcd(client, peer).await?;
        kube.start_api_server(client, port, options.audit).await?;
        if options.controllers {
            kube.start_controllers(&pki, options.only).await?;
        }
        Ok(kube)
    }

    /// The address of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A kubeconfig for its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// A client for its administrator.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// A kubeconfig for a service account that is there: it names a file with a token, as a pod has one.
    ///
    /// # Errors
    /// When the API gives no token.
    pub async fn account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path();
        let token = folder.join(format!("{namespace}.{name}.token"));
        fs::write(&token, self.token(namespace, name).await?)?;
        let path = folder.join(format!("{namespace}.{name}.kubeconfig"));
        let ca = fs::read_to_string(folder.join("ca.crt"))?;
        write_kubeconfig(&path, &self.url, &ca, json!({"tokenFile": token}))?;
        Ok(path)
    }

    /// A token of a service account that is there, for an hour (TokenRequest of authentication.k8s.io/v1).
    ///
    /// # Errors
    /// When the API gives none.
    pub async fn token(&self, namespace: &str, name: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600},
        });
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&body)?)?;
        let answer: serde_json::Value = self.client().await?.request(request).await?;
        let token = answer["status"]["token"].as_str();
        Ok(token.context("the API gave no token")?.to_owned())
    }

    /// What the service accounts asked for until now, each thing once (see [`KubeOptions::audit`]).
    ///
    /// # Errors
    /// When nothing is written down.
    pub fn asked(&self) -> Result<BTreeSet<Asked>> {
        let text = fs::read_to_string(self.folder.path().join("audit.log"))?;
        // The last line may not be whole yet.
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        Ok(events
            .flat_map(|event| {
                let own = impersonated(&event).unwrap_or_else(|| asked(&event));
                own.into_iter().chain(reviewed(&event))
            })
            .collect())
    }

    /// Runs kubectl as the administrator, and gives back what it says.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(program("kubectl")?);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(args);
        let pipe = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
        let [stdin, stdout, stderr] = pipe;
        let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()?;
        let mut stdin = child.stdin.take().context("kubectl reads nothing")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(output.status.success(), "kubectl {args:?}: {said}");
        Ok(said)
    }

    /// The process with this name: `etcd`, `kube-apiserver`, `kube-controller-manager`.
    pub fn process(&self, name: &str) -> Option<u32> {
        let names = ["etcd", "kube-apiserver", "kube-controller-manager"];
        let place = names.iter().position(|known| *known == name)?;
        self.processes.get(place).map(Process::id)
    }

    async fn start_etcd(&mut self, client: u16, peer: u16) -> Result<()> {
        let folder = self.folder.path();
        let data = folder.join("etcd");
        let args = [
            "--name=e".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=e=http://127.0.0.1:{peer}"),
            "--log-level=warn".to_owned(),
        ];
        let mut etcd = Process::start("etcd", &program("etcd")?, args, folder)?;
        etcd.wait_for(START, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", client))
                .await
                .is_ok()
        })
        .await?;
        self.processes.push(etcd);
        Ok(())
    }

    async fn start_api_server(&mut self, etcd: u16, port: u16, audit: Option<&str>) -> Result<()> {
        let folder = self.folder.path();
        let file = |name: &str| folder.join(name).display().to_string();
        fs::write(
            folder.join("tokens.csv"),
            format!("{TOKEN},admin,admin,\"system:masters\"\n"),
        )?;
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--enable-bootstrap-token-auth=true".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                file("accounts.key")
            ),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--profiling=false".to_owned(),
            // Nobody makes service accounts, takes off taints or ends protection when there are no controllers.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,StorageObjectInUseProtection".to_owned(),
        ];
        if let Some(namespace) = audit {
            let policy = json!({
                "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
                "rules": [
                    {
                        "level": "RequestResponse", "userGroups": [format!("system:serviceaccounts:{namespace}")],
                        "resources": [{"group": "authorization.k8s.io", "resources": ["subjectaccessreviews"]}],
                    },
                    {"level": "Metadata", "userGroups": [format!("system:serviceaccounts:{namespace}")]},
                    {"level": "None"},
                ],
            });
            fs::write(folder.join("audit.json"), policy.to_string())?;
            args.push("--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned());
            args.push(format!("--audit-policy-file={}", file("audit.json")));
            args.push(format!("--audit-log-path={}", file("audit.log")));
        }
        let mut server =
            Process::start("kube-apiserver", &program("kube-apiserver")?, args, folder)?;
        let client = self.client().await?;
        server
            .wait_for(START, async || {
                let request = http_get("/readyz");
                client
                    .request_text(request)
                    .await
                    .is_ok_and(|text| text == "ok")
            })
            .await?;
        self.processes.push(server);
        Ok(())
    }

    async fn start_controllers(&mut self, pki: &Pki, only: Option<&str>) -> Result<()> {
        let folder = self.folder.path();
        let file = |name: &str| folder.join(name).display().to_string();
        let (certificate, key) = pki.client("system:kube-controller-manager", "")?;
        let user = json!({"client-certificate-data": encode(&certificate), "client-key-data": encode(&key)});
        write_kubeconfig(
            &folder.join("controllers.kubeconfig"),
            &self.url,
            &pki.ca,
            user,
        )?;
        let config = file("controllers.kubeconfig");
        let args = [
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", free_port()?),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!(
                "--service-account-private-key-file={}",
                file("accounts.key")
            ),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            format!("--controllers={}", only.unwrap_or(CONTROLLERS)),
        ];
        let mut manager = Process::start(
            "kube-controller-manager",
            &program("kube-controller-manager")?,
            args,
            folder,
        )?;
        let client = self.client().await?;
        // Every set of controllers of interest publishes the root certificate.
        let sign = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
        manager
            .wait_for(START, async || {
                client.request_text(http_get(sign)).await.is_ok()
            })
            .await?;
        self.processes.push(manager);
        Ok(())
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        // What depends on another process ends first.
        while self.processes.pop().is_some() {}
    }
}

/// What an event of audit.k8s.io/v1 says that was asked for.
fn asked(event: &serde_json::Value) -> Vec<Asked> {
    let text = |pointer: &str| event.pointer(pointer).and_then(serde_json::Value::as_str);
    let path = text("/requestURI").and_then(|uri| uri.split('?').next());
    let resource = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
        (Some(resource), Some(part)) => Some(format!("{resource}/{part}")),
        (resource, _) => resource.or(path).map(ToOwned::to_owned),
    };
    let account = text("/user/username").and_then(|user| user.rsplit(':').next());
    let code = event.pointer("/responseStatus/code");
    let (Some(account), Some(resource), Some(verb), Some(code)) = (
        account,
        resource,
        text("/verb"),
        code.and_then(serde_json::Value::as_u64),
    ) else {
        return Vec::new();
    };
    let one = |verb: &str| Asked {
        account: account.to_owned(),
        verb: verb.to_owned(),
        group: text("/objectRef/apiGroup").unwrap_or_default().to_owned(),
        resource: resource.clone(),
        code,
    };
    let made = (verb == "patch" && code == 201).then_some("create");
    std::iter::once(verb).chain(made).map(one).collect()
}

/// Of a request in somebody else's name, which the API let through to judge it by his rights.
fn impersonated(event: &serde_json::Value) -> Option<Vec<Asked>> {
    let text = |pointer: &str| event.pointer(pointer).and_then(serde_json::Value::as_str);
    let account = text("/user/username")?.rsplit(':').next()?;
    let other = text("/impersonatedUser/username")?;
    let right = |resource: &str| Asked {
        account: account.to_owned(),
        verb: "impersonate".to_owned(),
        group: String::new(),
        resource: resource.to_owned(),
        code: 200,
    };
    let kind = if other.starts_with("system:serviceaccount:") {
        "serviceaccounts"
    } else {
        "users"
    };
    let groups = event.pointer("/impersonatedUser/groups");
    Some(
        std::iter::once(kind)
            .chain(groups.map(|_| "groups"))
            .map(right)
            .collect(),
    )
}

/// What an access review asked about an account of the namespace of who asked.
fn reviewed(event: &serde_json::Value) -> Option<Asked> {
    let text = |pointer: &str| event.pointer(pointer).and_then(serde_json::Value::as_str);
    let (space, _) = text("/user/username")?.rsplit_once(':')?;
    let account = text("/requestObject/spec/user")?
        .strip_prefix(space)?
        .strip_prefix(':')?;
    let part = |name: &str| text(&format!("/requestObject/spec/resourceAttributes/{name}"));
    let resource = match part("subresource").filter(|name| !name.is_empty()) {
        Some(subresource) => format!("{}/{subresource}", part("resource")?),
        None => part("resource")?.to_owned(),
    };
    let allowed = event.pointer("/responseObject/status/allowed")?.as_bool()?;
    Some(Asked {
        account: account.to_owned(),
        verb: part("verb")?.to_owned(),
        group: part("group").unwrap_or_default().to_owned(),
        resource,
        code: if allowed { 200 } else { 403 },
    })
}

fn http_get(path: &str) -> http::Request<Vec<u8>> {
    let mut request = http::Request::new(Vec::new());
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
}

struct Pki {
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn write(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?.pem();
        fs::write(folder.join("ca.crt"), &ca)?;
        fs::write(folder.join("ca.key"), key.serialize_pem())?;
        let pki = Self {
            ca,
            issuer: Issuer::new(params, key),
        };
        let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
        server
            .subject_alt_names
            .push(SanType::IpAddress("127.0.0.1".parse()?));
        server
            .subject_alt_names
            .push(SanType::IpAddress("10.96.0.1".parse()?));
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, key) = pki.sign(server)?;
        fs::write(folder.join("server.crt"), certificate)?;
        fs::write(folder.join("server.key"), key)?;
        let accounts = KeyPair::generate()?;
        fs::write(folder.join("accounts.key"), accounts.serialize_pem())?;
        fs::write(folder.join("accounts.pub"), accounts.public_key_pem())?;
        Ok(pki)
    }

    fn client(&self, user: &str, group: &str) -> Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("failed to sign a certificate")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn encode(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn write_kubeconfig(path: &Path, url: &str, ca: &str, user: serde_json::Value) -> Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "peer",
        "clusters": [{"name": "peer", "cluster": {"server": url, "certificate-authority-data": encode(ca)}}],
        "users": [{"name": "peer", "user": user}],
        "contexts": [{"name": "peer", "context": {"cluster": "peer", "user": "peer"}}],
    });
    fs::write(path, serde_json::to_vec_pretty(&config)?)?;
    Ok(())
}
