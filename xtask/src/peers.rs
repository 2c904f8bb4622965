//! Real peers, built once from Go modules by name and kept outside the checkout.
//!
//! Each peer is a folder `tests/peers/NAME` with `go.mod` and `go.sum` (and perhaps a program of
//! ours). What is built from it lies in `CACHE/NAME-HASH/`, where HASH covers every file of the
//! folder, so a changed version builds anew and an unchanged one never does.
//! `CACHE` is `$DROVER_PEERS_CACHE`, or `drover/peers` in the user's cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A Go module of ours and the programs to build in it.
struct Peer {
    name: &'static str,
    /// Package to build and the name of the program.
    programs: &'static [(&'static str, &'static str)],
    ldflags: &'static str,
    /// A module whose custom resource definitions are kept beside the programs.
    definitions_of: Option<&'static str>,
}

/// Stamped so that `/version` tells the truth (a module build knows no version of its own).
const KUBE_VERSION: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=36 \
    -X k8s.io/component-base/version.gitTreeState=clean";

/// Peers that are built with a C compiler, and the build tags that they need.
const WITH_C: &[(&str, &str)] = &[("sdkgo-kafka", "kafka")];

const PEERS: &[Peer] = &[
    Peer {
        name: "etcd",
        programs: &[("go.etcd.io/etcd/server/v3", "etcd")],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "kube",
        programs: &[
            ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
            (
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                "kube-controller-manager",
            ),
            ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ],
        ldflags: KUBE_VERSION,
        definitions_of: None,
    },
    Peer {
        name: "sdkgo",
        programs: &[("./probe", "sdkgo-probe")],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "sdkgo013",
        programs: &[("./probe", "sdkgo013-probe")],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "sdkgo-kafka",
        programs: &[("./probe", "sdkgo-kafka-probe")],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "sdkgo-rollout",
        programs: &[("./probe", "sdkgo-rollout-probe")],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "client-go",
        programs: &[("./probe", "client-go-probe")],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "ocm",
        programs: &[
            ("open-cluster-management.io/ocm/cmd/work", "ocm-work"),
            (
                "open-cluster-management.io/ocm/cmd/registration",
                "ocm-registration",
            ),
            ("open-cluster-management.io/ocm/cmd/server", "ocm-server"),
        ],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "ocm-placement",
        programs: &[(
            "open-cluster-management.io/ocm/cmd/placement",
            "ocm-placement",
        )],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "ocm-webhook",
        programs: &[("./server", "ocm-webhook")],
        ldflags: "-s -w",
        definitions_of: None,
    },
    Peer {
        name: "ocm-api",
        programs: &[],
        ldflags: "",
        definitions_of: Some("open-cluster-management.io/api"),
    },
];

/// Builds what is missing; the answer is a folder with a link to every program, for `DROVER_PEERS`.
pub(crate) fn install() -> Result<PathBuf> {
    let cache = cache_folder()?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/peers")
        .canonicalize()?;
    let mut built = Vec::new();
    for peer in PEERS {
        built.push(build(peer, &sources.join(peer.name), &cache)?);
    }
    built.push(fetch_kafka(&sources.join("kafka"), &cache)?);
    built.push(fetch_fedora_messaging(
        &sources.join("fedora-messaging"),
        &cache,
    )?);
    collect(&cache, &built)
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("DROVER_PEERS_CACHE") {
        return Ok(folder.into());
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .context(
            "neither DROVER_PEERS_CACHE, XDG_CACHE_HOME nor HOME is set: nowhere to keep peers",
        )?;
    Ok(base.join("drover/peers"))
}

fn build(peer: &Peer, source: &Path, cache: &Path) -> Result<PathBuf> {
    let target = cache.join(format!("{}-{}", peer.name, fingerprint(source)?));
    if target.join("complete").exists() {
        return Ok(target);
    }
    fs::create_dir_all(&target).with_context(|| format!("failed to make {}", target.display()))?;
    for (package, program) in peer.programs {
        crate::checks::say(&format!(
            "building {program} (kept in {})",
            target.display()
        ));
        let output = target.join(program);
        let output = output
            .to_str()
            .context("the cache folder's name is not UTF-8")?;
        go(
            source,
            &[
                "build",
                "-trimpath",
                "-ldflags",
                peer.ldflags,
                "-o",
                output,
                package,
            ],
        )?;
    }
    if let Some(module) = peer.definitions_of {
        copy_definitions(source, module, &target.join("crds"))?;
    }
    fs::write(target.join("complete"), "")?;
    Ok(target)
}

/// Kafka is jars, by name from Maven's registry.
fn fetch_kafka(source: &Path, cache: &Path) -> Result<PathBuf> {
    let target = cache.join(format!("kafka-{}", fingerprint(source)?));
    if target.join("complete").exists() {
        return Ok(target);
    }
    let jars = target.join("kafka-jars");
    crate::checks::say(&format!("fetching Kafka (kept in {})", target.display()));
    let status = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies"])
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .current_dir(source)
        .status()
        .context("failed to run mvn: Kafka is fetched with Maven, please install it")?;
    if !status.success() {
        bail!("mvn failed to fetch Kafka");
    }
    fs::write(target.join("complete"), "")?;
    Ok(target)
}

/// The Python library of Fedora Messaging, by name from Python's registry, in an environment of its own.
fn fetch_fedora_messaging(source: &Path, cache: &Path) -> Result<PathBuf> {
    let target = cache.join(format!("fedora-messaging-{}", fingerprint(source)?));
    if target.join("complete").exists() {
        return Ok(target);
    }
    // An environment cannot be moved: it is made where it stays.
    let python = target.join("fedora-messaging");
    crate::checks::say(&format!(
        "fetching fedora-messaging (kept in {})",
        target.display()
    ));
    let pip = python.join("bin/pip");
    let steps = [
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&python)
            .status(),
        Command::new(&pip)
            .args(["install", "-q", "--disable-pip-version-check", "-r"])
            .arg(source.join("requirements.txt"))
            .status(),
    ];
    for step in steps {
        let step = step.context(
            "failed to run python3: fedora-messaging needs Python 3.10 or newer and the package python3-venv, please install them",
        )?;
        if !step.success() {
            bail!("Python's pip failed to fetch fedora-messaging");
        }
    }
    fs::write(target.join("complete"), "")?;
    Ok(target)
}

/// Names the content of a folder: 12 hex digits, by `git hash-object` of its files in order.
fn fingerprint(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    list_files(folder, &mut files)?;
    files.sort();
    let output = Command::new("git")
        .arg("hash-object")
        .args(&files)
        .output()
        .context("failed to run git, which names the versions of peers")?;
    if !output.status.success() {
        bail!(
            "git hash-object failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    // FNV-1a over the hashes: only equality of a whole build recipe is asked of it.
    let hash = output
        .stdout
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    Ok(format!("{hash:016x}")[..12].to_owned())
}

fn list_files(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            list_files(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}

fn go(folder: &Path, args: &[&str]) -> Result<String> {
    let with_c = WITH_C.iter().find(|(name, _)| folder.ends_with(name));
    let (cgo, tags) = with_c.map_or(("0", ""), |(_, tags)| ("1", *tags));
    let output = Command::new("go")
        .args(args)
        .current_dir(folder)
        .env("CGO_ENABLED", cgo)
        .env("GOFLAGS", format!("-mod=mod -buildvcs=false -tags={tags}"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("failed to run go: peers are built with Go 1.26 or newer, please install it")?;
    if !output.status.success() {
        bail!("`go {}` failed in {}", args.join(" "), folder.display());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn copy_definitions(source: &Path, module: &str, target: &Path) -> Result<()> {
    go(source, &["mod", "download", module])?;
    let folder = go(source, &["list", "-m", "-f", "{{.Dir}}", module])?;
    let mut files = Vec::new();
    list_files(Path::new(&folder), &mut files)?;
    fs::create_dir_all(target)?;
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(".crd.yaml") {
            // Several areas use the same file names: the area goes in front.
            let area = file.strip_prefix(&folder)?.components().next();
            let area = area.map(|part| part.as_os_str().to_string_lossy().into_owned());
            let copy = target.join(format!("{}-{name}", area.unwrap_or_default()));
            fs::write(copy, fs::read(&file)?)?;
        }
    }
    Ok(())
}

/// One folder with everything, made anew so that nothing old is left in it.
fn collect(cache: &Path, built: &[PathBuf]) -> Result<PathBuf> {
    let all = cache.join("current");
    match fs::remove_dir_all(&all) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&all)?,
    }
    for folder in built {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|name| *name != "complete") {
                std::os::unix::fs::symlink(&path, all.join(name))?;
            }
        }
    }
    Ok(all)
}
