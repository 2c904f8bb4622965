//! Programs with what a kubelet gives to a container: the folder of the service account where clients look for it, the address of the
//! API in the environment, and nothing else that leads to it. Needs mount namespaces of Linux: of root, or of users who may make some.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::fleet::eventually;
use crate::kube_api::KubeApi;
use crate::process::Process;

/// Puts the folder at its place for one program, which dies with its parent.
const SCRIPT: &str = "set -e
unset KUBECONFIG
mount -t tmpfs none /var/run/
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
mount --bind \"$0\" /var/run/secrets/kubernetes.io/serviceaccount
exec setpriv --pdeathsig KILL -- \"$@\"";

/// How long an API server may take a token that is worth nothing.
const FORGOTTEN: Duration = Duration::from_mins(1);

/// A pod with a service account; its programs are processes of this machine.
#[derive(Clone, Debug)]
pub struct Pod {
    namespace: String,
    account: String,
    /// What the programs see as `/var/run/secrets/kubernetes.io/serviceaccount`.
    folder: PathBuf,
    host: String,
    port: String,
    turn: Arc<AtomicUsize>,
}

impl Pod {
    /// A pod of a service account that is there; `folder` is made and kept.
    ///
    /// # Errors
    /// When the API gives no token.
    pub async fn new(
        kube: &KubeApi,
        namespace: &str,
        account: &str,
        folder: &Path,
    ) -> Result<Self> {
        let address = kube.url().trim_start_matches("https://");
        let (host, port) = address.rsplit_once(':').context("an API without a port")?;
        let pod = Self {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            folder: folder.join(format!("{account}-pod")),
            host: host.to_owned(),
            port: port.to_owned(),
            turn: Arc::default(),
        };
        fs::create_dir(&pod.folder)?;
        for name in ["ca.crt", "namespace", "token"] {
            symlink(Path::new("..data").join(name), pod.folder.join(name))?;
        }
        pod.write(kube, 0).await?;
        Ok(pod)
    }

    /// Gives another token, as a kubelet does when the old one has lived for long, and makes the old one worthless: it is, when this
    /// returns.
    ///
    /// # Errors
    /// When the API gives no token, or takes the old one for too long.
    pub async fn rotate(&self, kube: &KubeApi) -> Result<()> {
        let old = fs::read_to_string(self.folder.join("token"))?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.write(kube, turn + 1).await?;
        let client = kube.client().await?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.namespace);
        let params = DeleteParams::default();
        secrets.delete(&self.bound(turn), &params).await?;
        let reviews: Api<TokenReview> = Api::all(client);
        let review: TokenReview = serde_json::from_value(json!({"spec": {"token": old}}))?;
        // API servers remember for some seconds that a token was good.
        let refused = async || {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            let good = answer.status.and_then(|status| status.authenticated);
            ensure!(good != Some(true), "the old token is good");
            Ok(())
        };
        eventually("the end of a token", FORGOTTEN, refused).await
    }

    /// What a token is bound to: it counts as long as that is there.
    fn bound(&self, turn: usize) -> String {
        format!("{}-pod-{turn}", self.account)
    }

    async fn write(&self, kube: &KubeApi, turn: usize) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(kube.client().await?, &self.namespace);
        let name = self.bound(turn);
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let made = secrets.create(&PostParams::default(), &secret).await?;
        let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": name, "uid": made.uid()});
        let token = kube.token_for(&self.namespace, &self.account, Some(bound));
        let data = self.folder.join(format!("..{turn}"));
        fs::create_dir(&data)?;
        fs::write(data.join("token"), token.await?)?;
        fs::write(data.join("namespace"), &self.namespace)?;
        fs::copy(kube.authority(), data.join("ca.crt"))?;
        // Everything changes at once.
        let link = self.folder.join("..data_tmp");
        symlink(format!("..{turn}"), &link)?;
        fs::rename(link, self.folder.join("..data"))?;
        Ok(())
    }

    /// Starts a program in it; what it says goes to `folder/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started, or there are no mount namespaces.
    pub fn start(
        &self,
        name: &str,
        program: &Path,
        args: &[String],
        folder: &Path,
    ) -> Result<Process> {
        let words = [
            SCRIPT.to_owned(),
            self.folder.display().to_string(),
            program.display().to_string(),
        ];
        let all = namespace()?.iter().map(|&word| word.to_owned());
        let all = all.chain(["sh", "-c"].map(ToOwned::to_owned)).chain(words);
        let env = [
            ("KUBERNETES_SERVICE_HOST", self.host.clone()),
            ("KUBERNETES_SERVICE_PORT", self.port.clone()),
        ];
        let all = all.chain(args.iter().cloned());
        Process::start_in(name, Path::new("unshare"), all, &env, folder)
    }
}

/// What asks for a mount namespace.
fn namespace() -> Result<&'static [&'static str]> {
    const ROOT: &[&str] = &["--mount"];
    const USER: &[&str] = &["--map-root-user", "--mount"];
    let works = |words: &[&str]| {
        let mut tried = Command::new("unshare");
        tried.args(words);
        tried.args(["mount", "-t", "tmpfs", "none", "/var/run/"]);
        tried.output().is_ok_and(|output| output.status.success())
    };
    if works(ROOT) {
        return Ok(ROOT);
    }
    ensure!(
        works(USER),
        "no mount namespace: run as root with CAP_SYS_ADMIN, or let users make namespaces (sysctl user.max_user_namespaces)"
    );
    Ok(USER)
}
