//! A small node: runs the pods of senders as a kubelet would, with the programs of this machine in place of an image.
//!
//! It takes each pod from the API, lays out its volumes in a folder, runs exactly its command with exactly its variables, ends it at
//! its deadline, and reports how it ended. The folder stands for the root of the container: where the pod names a place of a mount,
//! also inside of its ConfigMap, it finds the place in the folder.

use std::collections::BTreeMap;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Volume};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;

const LOOK: Duration = Duration::from_millis(100);
/// What a kubelet passes on of the file of last words, and of the log (kubernetes: `pkg/kubelet/container`).
const WORDS: usize = 4096;
const LOG: (usize, usize) = (80, 2048);

/// What the image of a pod has.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Runs where a pod has no command of its own.
    pub entry_point: PathBuf,
    /// Where commands are.
    pub commands: PathBuf,
}

/// A running node; its processes end with it.
pub(crate) struct Node {
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    /// Runs the senders of all namespaces. Where the name of one ends with `hurried`, pods have half of the time that they say.
    pub(crate) fn start(client: Client, image: Image, hurried: &'static str) -> Self {
        let task = tokio::spawn(async move {
            let mut known = BTreeMap::new();
            loop {
                // What the API does not answer now it answers in the next round.
                if let Ok(pods) = senders(&client).await {
                    look(&client, &image, hurried, pods, &mut known).await;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { task }
    }
}

async fn senders(client: &Client) -> Result<Vec<Pod>> {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=drover-publisher");
    Ok(Api::<Pod>::all(client.clone()).list(&ours).await?.items)
}

/// Ends when dropped.
struct Run(JoinHandle<()>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn look(
    client: &Client,
    image: &Image,
    hurried: &'static str,
    pods: Vec<Pod>,
    known: &mut BTreeMap<String, Run>,
) {
    for pod in pods {
        let uid = pod.uid().unwrap();
        if pod.metadata.deletion_timestamp.is_some() {
            known.remove(&uid);
            let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
            let now = DeleteParams {
                grace_period_seconds: Some(0),
                ..DeleteParams::default()
            };
            // Somebody else may have been faster.
            api.delete(&pod.name_any(), &now).await.ok();
            continue;
        }
        let over = pod.status.as_ref().and_then(|it| it.phase.clone());
        if known.contains_key(&uid) || matches!(over.as_deref(), Some("Succeeded" | "Failed")) {
            continue;
        }
        let (client, image) = (client.clone(), image.clone());
        let namespace = pod.namespace().unwrap();
        let haste = 1 + u32::from(namespace.ends_with(hurried));
        let run = tokio::spawn(async move {
            serve(&client, &image, haste, &pod).await.unwrap();
        });
        known.insert(uid, Run(run));
    }
}

/// The whole life of a pod.
async fn serve(client: &Client, image: &Image, haste: u32, pod: &Pod) -> Result<()> {
    let (namespace, name) = (pod.namespace().unwrap(), pod.name_any());
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                         "target": {"kind": "Node", "name": "n1"}});
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&binding)?)?;
    client.request_text(request).await?;
    let report = async |phase: &str, reason: Option<&str>, state: serde_json::Value| {
        let status = json!({"status": {
            "phase": phase, "reason": reason, "startTime": pod.creation_timestamp(),
            "containerStatuses": [{"name": "publish", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                                   "state": state}],
        }});
        let (params, status) = (PatchParams::default(), Patch::Merge(status));
        api.patch_status(&name, &params, &status).await
    };
    let creating = json!({"waiting": {"reason": "ContainerCreating"}});
    report("Pending", None, creating).await?;
    let root = Root::lay_out(client, pod).await?;
    report(
        "Running",
        None,
        json!({"running": {"startedAt": pod.creation_timestamp()}}),
    )
    .await?;
    let spec = pod.spec.as_ref().context("a pod has a spec")?;
    ensure!(spec.restart_policy.as_deref() == Some("Never"));
    let seconds = u64::try_from(spec.active_deadline_seconds.unwrap())?;
    let deadline = Duration::from_secs(seconds) / haste;
    let (code, late) = root.run(image, &spec.containers[0], deadline).await?;
    let words = root.last_words(&spec.containers[0], code);
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let why = if code == 0 { "Completed" } else { "Error" };
    let ended =
        json!({"terminated": {"exitCode": code, "reason": why, "message": words}, "running": null});
    report(phase, late.then_some("DeadlineExceeded"), ended).await?;
    Ok(())
}

/// What a container sees, in a folder.
struct Root {
    folder: TempDir,
    /// Places in the container, and where they are.
    places: Vec<(String, PathBuf)>,
    words: PathBuf,
    log: PathBuf,
}

impl Root {
    async fn lay_out(client: &Client, pod: &Pod) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let spec = pod.spec.as_ref().context("a pod has a spec")?;
        let container = &spec.containers[0];
        let words = folder.path().join("words");
        std::fs::write(&words, "")?;
        let mut places = vec![("/dev/termination-log".to_owned(), words.clone())];
        let mounts = container.volume_mounts.clone().unwrap_or_default();
        for mount in &mounts {
            let place = folder.path().join("root").join(&mount.mount_path[1..]);
            std::fs::create_dir_all(&place)?;
            places.push((mount.mount_path.clone(), place));
        }
        for mount in &mounts {
            let mut volumes = spec.volumes.iter().flatten();
            let volume = volumes.find(|volume| volume.name == mount.name);
            let place = folder.path().join("root").join(&mount.mount_path[1..]);
            let namespace = pod.namespace().unwrap();
            let volume = volume.context("a mount has a volume")?;
            fill(client, &namespace, volume, &place, &places).await?;
        }
        let log = folder.path().join("log");
        Ok(Self {
            folder,
            places,
            words,
            log,
        })
    }

    /// Runs the container; the answer is its exit code, and whether it was ended at its deadline.
    async fn run(
        &self,
        image: &Image,
        container: &Container,
        limit: Duration,
    ) -> Result<(i32, bool)> {
        let placed = |words: &Option<Vec<String>>| {
            let words = words.clone().unwrap_or_default();
            words.iter().map(|word| self.placed(word)).collect()
        };
        let mut words: Vec<String> = placed(&container.command);
        let program = if words.is_empty() {
            image.entry_point.clone()
        } else {
            image.commands.join(words.remove(0))
        };
        words.extend::<Vec<String>>(placed(&container.args));
        let env = container.env.iter().flatten().map(|variable| {
            let value = variable.value.as_deref().unwrap_or_default();
            (variable.name.clone(), self.placed(value))
        });
        let log = std::fs::File::create(&self.log)?;
        let mut child = Command::new(program)
            .args(words)
            .env_clear()
            .envs(env)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let ended = tokio::time::timeout(limit, child.wait()).await;
        let late = ended.is_err();
        let status = if let Ok(status) = ended {
            status?
        } else {
            child.start_kill()?;
            child.wait().await?
        };
        let signal = status.signal().map(|number| 128 + number);
        Ok((status.code().or(signal).unwrap_or(137), late))
    }

    /// A word with the place in the folder where it names one of a mount.
    fn placed(&self, word: &str) -> String {
        let places = self.places.iter();
        let mut found = places.filter_map(|(mount, place)| {
            let rest = word.strip_prefix(mount.as_str())?;
            let whole = rest.is_empty() || rest.starts_with('/');
            whole.then(|| format!("{}{rest}", place.display()))
        });
        found.next().unwrap_or_else(|| word.to_owned())
    }

    fn last_words(&self, container: &Container, code: i32) -> String {
        let words = std::fs::read(&self.words).unwrap_or_default();
        let words = String::from_utf8_lossy(&words[words.len().saturating_sub(WORDS)..]);
        let policy = container.termination_message_policy.as_deref();
        if !words.is_empty() || code == 0 || policy != Some("FallbackToLogsOnError") {
            return words.into_owned();
        }
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG.1)..]).into_owned();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG.0)..].join("\n")
    }
}

async fn fill(
    client: &Client,
    namespace: &str,
    volume: &Volume,
    place: &Path,
    places: &[(String, PathBuf)],
) -> Result<()> {
    if let Some(source) = &volume.config_map {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        for (name, mut text) in api.get(&source.name).await?.data.unwrap_or_default() {
            // The folder is below /tmp, which may be a mount too: that one is the last, and goes first.
            for (mount, place) in places.iter().rev() {
                text = text.replace(&format!("\"{mount}/"), &format!("\"{}/", place.display()));
            }
            write(&place.join(name), text.as_bytes(), 0o644)?;
        }
    } else if let Some(source) = &volume.secret {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let mut data = api.get(name).await?.data.unwrap_or_default();
        for item in source.items.iter().flatten() {
            let bytes = data.remove(&item.key).context("the secret has the key")?;
            let mode = item.mode.or(source.default_mode).unwrap_or(0o644);
            write(&place.join(&item.path), &bytes.0, u32::try_from(mode)?)?;
        }
    } else {
        ensure!(volume.empty_dir.is_some(), "{volume:?}");
    }
    let read_only = volume.empty_dir.is_none();
    let mode = if read_only { 0o555 } else { 0o777 };
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    std::io::Write::write_all(&mut file, bytes)?;
    Ok(())
}
