//! Pods that really run: those of Drover's own image that publish a message, as processes of this machine.
//!
//! Such a pod gets its secrets, ConfigMaps and empty folders as files of its own, and its command as it stands, with the places of
//! the mounts put in. Whoever can make a pod must not get at this machine thereby: nothing but `publish` is run, without the
//! variables of the pod, and no argument may name a file outside of the pod's mounts.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Container, KeyToPath, Pod, Secret, Volume};
use kube::{Api, Client, ResourceExt as _};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::AbortHandle;

use crate::cluster::WorkloadsError;

/// The only command that is run.
const COMMAND: &str = "publish";
/// Where a container leaves its last words when its spec does not say.
const LAST_WORDS: &str = "/dev/termination-log";
/// The longest last words (kubernetes: pkg/kubelet, 4096 bytes; 2048 where they are taken from the log).
const LONGEST: u64 = 2048;
/// A pod without a deadline of its own is ended after this time.
const DEADLINE: Duration = Duration::from_mins(10);

/// How pods of one image are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The image, exactly as pods name it.
    pub image: String,
    /// The program that the image stands for.
    pub program: PathBuf,
    /// Where the pods' files are while they run. What is in there is removed at the start.
    pub folder: PathBuf,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub code: i32,
    pub reason: &'static str,
    pub message: String,
}

impl Ended {
    /// Ended from outside.
    pub(crate) fn killed(reason: &'static str, message: &str) -> Self {
        Self {
            code: 137,
            reason,
            message: message.to_owned(),
        }
    }
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was not started by this node since the node was started.
    Unknown,
    /// It runs.
    Going,
    /// It ended.
    Over(Ended),
}

#[derive(Debug)]
enum Run {
    Going(AbortHandle),
    Over(Ended),
}

/// The processes of one cluster, by the uid of their pod.
#[derive(Debug)]
pub(crate) struct Runs {
    local: Local,
    known: Mutex<HashMap<String, Run>>,
}

/// Why a pod cannot run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("argument {0:?} names a file outside of the pod's mounts")]
    Outside(String),
    #[error("volume {0:?} is neither a secret nor a ConfigMap nor an empty folder")]
    Volume(String),
    #[error("{0:?} is no name of a file in a volume")]
    FileName(String),
    #[error("{kind} {name:?} is not there or lacks a key")]
    Missing { kind: &'static str, name: String },
    #[error("failed to write the pod's files: {0}")]
    Io(#[from] std::io::Error),
}

/// The files of a pod, and its command.
struct Prepared {
    folder: TempDir,
    args: Vec<String>,
    last_words: PathBuf,
}

impl Runs {
    pub(crate) fn new(local: Local) -> std::io::Result<Self> {
        match std::fs::remove_dir_all(&local.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&local.folder)?;
        Ok(Self {
            local,
            known: Mutex::default(),
        })
    }

    /// The container of a pod that is to run here.
    pub(crate) fn container<'p>(&self, pod: &'p Pod) -> Option<&'p Container> {
        let spec = pod.spec.as_ref()?;
        let [container] = spec.containers.as_slice() else {
            return None;
        };
        let plain = spec.init_containers.as_ref().is_none_or(Vec::is_empty)
            && container.command.as_ref().is_none_or(Vec::is_empty);
        let args = container.args.as_deref().unwrap_or_default();
        let ours = container.image.as_deref() == Some(self.local.image.as_str());
        (plain && ours && args.first().is_some_and(|first| first == COMMAND)).then_some(container)
    }

    /// What is known of the process of a pod.
    pub(crate) fn state(&self, uid: &str) -> State {
        match self.lock().get(uid) {
            None => State::Unknown,
            Some(Run::Going(_)) => State::Going,
            Some(Run::Over(ended)) => State::Over(ended.clone()),
        }
    }

    /// Ends the process, if it runs.
    pub(crate) fn forget(&self, uid: &str) {
        if let Some(Run::Going(handle)) = self.lock().remove(uid) {
            handle.abort();
        }
    }

    /// Ends all processes.
    pub(crate) fn end(&self) {
        for (_, run) in self.lock().drain() {
            if let Run::Going(handle) = run {
                handle.abort();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Run>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the process of a pod; `over` is called once it has ended.
    pub(crate) async fn start(
        self: &std::sync::Arc<Self>,
        client: &Client,
        pod: &Pod,
        container: &Container,
        over: impl FnOnce() + Send + 'static,
    ) -> Result<(), WorkloadsError> {
        let uid = pod.uid().unwrap_or_default();
        let prepared = match self.prepare(client, pod, container).await {
            Ok(prepared) => prepared,
            Err(Some(refused @ (Refused::Missing { .. } | Refused::Io(_)))) => {
                return Err(WorkloadsError::Pod {
                    name: pod.name_any(),
                    why: refused.to_string(),
                });
            }
            Err(Some(refused)) => {
                let ended = Ended {
                    code: 128,
                    reason: "ContainerCannotRun",
                    message: refused.to_string(),
                };
                self.lock().insert(uid, Run::Over(ended));
                over();
                return Ok(());
            }
            Err(None) => {
                return Err(WorkloadsError::Pod {
                    name: pod.name_any(),
                    why: "its volumes cannot be read".to_owned(),
                });
            }
        };
        let seconds = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds);
        let limit = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(DEADLINE, Duration::from_secs);
        let program = self.local.program.clone();
        let runs = std::sync::Arc::clone(self);
        let mut known = self.lock();
        let key = uid.clone();
        let task = tokio::spawn(async move {
            let ended = run(&program, prepared, limit).await;
            if let Some(known) = runs.lock().get_mut(&key) {
                *known = Run::Over(ended);
            }
            over();
        });
        known.insert(uid, Run::Going(task.abort_handle()));
        Ok(())
    }

    async fn prepare(
        &self,
        client: &Client,
        pod: &Pod,
        container: &Container,
    ) -> Result<Prepared, Option<Refused>> {
        let namespace = pod.namespace().unwrap_or_default();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let folder = tempfile::Builder::new()
            .prefix("pod-")
            .tempdir_in(&self.local.folder);
        let folder = folder.map_err(|error| Some(error.into()))?;
        let mut places = Vec::new();
        for (number, mount) in mounts.iter().enumerate() {
            let named = |volume: &&Volume| volume.name == mount.name;
            let Some(volume) = volumes.unwrap_or_default().iter().find(named) else {
                return Err(Some(Refused::Volume(mount.name.clone())));
            };
            let files = files(client, &namespace, volume).await?;
            let place = folder.path().join(number.to_string());
            write(&place, &files).map_err(Some)?;
            places.push((mount.mount_path.clone(), place));
        }
        let last_words = folder.path().join("last-words");
        let path = container.termination_message_path.clone();
        places.push((
            path.unwrap_or_else(|| LAST_WORDS.to_owned()),
            last_words.clone(),
        ));
        let args = container.args.as_deref().unwrap_or_default();
        let args = args
            .iter()
            .map(|arg| placed(arg, &places))
            .collect::<Result<_, _>>();
        Ok(Prepared {
            args: args.map_err(Some)?,
            folder,
            last_words,
        })
    }
}

/// The files of a volume by name. `None` as the error: the API did not answer.
async fn files(
    client: &Client,
    namespace: &str,
    volume: &Volume,
) -> Result<BTreeMap<String, Vec<u8>>, Option<Refused>> {
    let missing = |kind, name: &str| {
        Some(Refused::Missing {
            kind,
            name: name.to_owned(),
        })
    };
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let found = api.get_opt(&name).await.map_err(|_| None)?;
        let data = found
            .ok_or_else(|| missing("secret", &name))?
            .data
            .unwrap_or_default();
        let data = data
            .into_iter()
            .map(|(key, bytes)| (key, bytes.0))
            .collect();
        return chosen(data, source.items.as_deref()).ok_or_else(|| missing("secret", &name));
    }
    if let Some(source) = &volume.config_map {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let found = api.get_opt(&source.name).await.map_err(|_| None)?;
        let found = found.ok_or_else(|| missing("configmap", &source.name))?;
        let data = found.data.unwrap_or_default();
        let data = data
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes()))
            .collect();
        return chosen(data, source.items.as_deref())
            .ok_or_else(|| missing("configmap", &source.name));
    }
    if volume.empty_dir.is_some() {
        return Ok(BTreeMap::new());
    }
    Err(Some(Refused::Volume(volume.name.clone())))
}

/// All files, or those that are asked for under the names that are asked for.
fn chosen(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
) -> Option<BTreeMap<String, Vec<u8>>> {
    match items {
        None => Some(data),
        Some(items) => items
            .iter()
            .map(|item| Some((item.path.clone(), data.remove(&item.key)?)))
            .collect(),
    }
}

fn write(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Refused> {
    std::fs::create_dir(folder)?;
    for (name, bytes) in files {
        let mut parts = Path::new(name).components();
        let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
            return Err(Refused::FileName(name.clone()));
        };
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(name))?;
        file.write_all(bytes)?;
    }
    Ok(())
}

/// An argument with the place of its file on this machine.
fn placed(arg: &str, places: &[(String, PathBuf)]) -> Result<String, Refused> {
    let outside = || Refused::Outside(arg.to_owned());
    let (option, value) = match arg.split_once('=') {
        Some((option, value)) if option.starts_with("--") => (Some(option), value),
        _ => (None, arg),
    };
    if !value.starts_with('/') {
        // Relative to the pod's own folder, and not out of it; a URL has its slashes elsewhere.
        let climbs = Path::new(value)
            .components()
            .any(|part| part == Component::ParentDir);
        let short_option = arg.starts_with('-') && !arg.starts_with("--") && arg.len() > 1;
        return if climbs || short_option {
            Err(outside())
        } else {
            Ok(arg.to_owned())
        };
    }
    for (mount, place) in places {
        let Ok(rest) = Path::new(value).strip_prefix(mount) else {
            continue;
        };
        if rest
            .components()
            .any(|part| !matches!(part, Component::Normal(_)))
        {
            return Err(outside());
        }
        let path = if rest.as_os_str().is_empty() {
            place.clone()
        } else {
            place.join(rest)
        };
        let path = path.display();
        return Ok(option.map_or_else(|| path.to_string(), |option| format!("{option}={path}")));
    }
    Err(outside())
}

async fn run(program: &Path, prepared: Prepared, limit: Duration) -> Ended {
    let log = prepared.folder.path().join("log");
    let outcome = async {
        let file = File::create(&log)?;
        let mut child = Command::new(program)
            .args(&prepared.args)
            .env_clear()
            .env("HOME", prepared.folder.path())
            .current_dir(prepared.folder.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        Ok::<_, std::io::Error>(tokio::time::timeout(limit, child.wait()).await)
    };
    let status = match outcome.await {
        Ok(Ok(Ok(status))) => status,
        Ok(Err(_)) => return Ended::killed("DeadlineExceeded", "it took too long"),
        Ok(Ok(Err(error))) | Err(error) => {
            return Ended {
                code: 128,
                reason: "ContainerCannotRun",
                message: error.to_string(),
            };
        }
    };
    let code = status.code().unwrap_or(137);
    let words = tail(&prepared.last_words);
    let message = if words.is_empty() && code != 0 {
        tail(&log)
    } else {
        words
    };
    Ended {
        code,
        reason: if code == 0 { "Completed" } else { "Error" },
        message,
    }
}

/// The end of a file; nothing where there is none.
fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_files_of_the_pod_only() {
        let places = [
            ("/etc/fmsg".to_owned(), PathBuf::from("/run/0")),
            (
                "/dev/termination-log".to_owned(),
                PathBuf::from("/run/words"),
            ),
        ];
        for (arg, expected) in [
            ("/etc/fmsg/message.json", Some("/run/0/message.json")),
            (
                "--file=/etc/fmsg/message.json",
                Some("--file=/run/0/message.json"),
            ),
            ("/dev/termination-log", Some("/run/words")),
            ("amqps://broker/%2Fpubsub", Some("amqps://broker/%2Fpubsub")),
            ("--topic", Some("--topic")),
            ("/etc/passwd", None),
            ("--file=/etc/passwd", None),
            ("/etc/fmsg/../passwd", None),
            ("/etc/fmsgx", None),
            ("../key", None),
            ("-o/etc/passwd", None),
        ] {
            assert_eq!(placed(arg, &places).ok().as_deref(), expected, "{arg}");
        }
    }

    #[test]
    fn a_file_of_a_volume_has_a_plain_name() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for (number, (name, fine)) in [
            ("key.pem", true),
            ("..", false),
            ("a/b", false),
            ("/etc/x", false),
            ("", false),
        ]
        .into_iter()
        .enumerate()
        {
            let files = BTreeMap::from([(name.to_owned(), Vec::new())]);
            let place = folder.path().join(number.to_string());
            assert_eq!(write(&place, &files).is_ok(), fine, "{name}");
        }
    }
}
