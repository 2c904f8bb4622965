//! What `drover status`, `drover clusters` and `drover works` show of a fleet.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use drover_testkit::{Process, eventually};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{LONG, apply, config_map, good, program, up, work, works};

/// Exit code, what was printed, what was complained of.
fn run(kubeconfig: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program())
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn what_is_wrong_comes_first_and_says_why() {
    let fleet = up(&["--ephemeral", "--hubs", "2", "--clusters", "3"]).await;
    let kubeconfig = fleet.kubeconfig();
    let hub = fleet.client("hub2").await.unwrap();
    let all = works(&hub, "cluster2");
    apply(&all, &work("good", "cluster2", &[config_map("a", "1")]))
        .await
        .unwrap();
    let orphan = json!({"apiVersion": "example.com/v1", "kind": "Orphan", "metadata": {"name": "o", "namespace": "default"}});
    apply(&all, &work("unknown-kind", "cluster2", &[orphan]))
        .await
        .unwrap();
    good(&all, "good").await;
    let why = "no matches for kind \"Orphan\"";
    eventually("the work that fails", LONG, async || {
        let (code, text, _) = run(&kubeconfig, &["works"]);
        ensure!(code == Some(0) && text.contains(why), "{text}");
        Ok(())
    })
    .await
    .unwrap();

    let (code, text, _) = run(&kubeconfig, &["works", "list", "-n", "cluster2"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 3), "{text}");
    assert!(
        lines[1].starts_with("cluster2   unknown-kind   False"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("cluster2   good           True"),
        "{text}"
    );
    let (_, text, _) = run(&kubeconfig, &["works", "-n", "cluster1"]);
    assert_eq!(text.lines().count(), 1, "{text}");

    let (_, text, _) = run(&kubeconfig, &["status"]);
    assert!(
        text.contains("hub2  1 cluster, 2 works (1 failing)"),
        "{text}"
    );
    assert!(text.contains(why), "{text}");
    let (_, text, _) = run(&kubeconfig, &["status", "cluster2", "--output", "json"]);
    let seen: Value = serde_json::from_str(&text).unwrap();
    let first = &seen["hubs"][0]["clusters"][0]["works"][0];
    assert_eq!(first["name"], "unknown-kind", "{text}");
    assert_eq!(first["problems"][0]["severity"], "failing", "{text}");
    let (_, text, _) = run(&kubeconfig, &["clusters", "--output", "wide"]);
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        names,
        ["NAME", "cluster2", "cluster1", "cluster3"],
        "{text}"
    );

    let (code, _, error) = run(&kubeconfig, &["status", "nowhere"]);
    assert!(
        code == Some(1) && error.contains("no hub has a cluster \"nowhere\""),
        "{error}"
    );
    assert_eq!(run(&kubeconfig, &["works", "--sideways"]).0, Some(2));
    fleet.stop().unwrap();
    let (code, text, error) = run(&kubeconfig, &["status"]);
    assert_eq!(code, Some(1), "{text}{error}");
}

#[tokio::test]
async fn changes_are_told_line_by_line_where_there_is_no_terminal() {
    let fleet = up(&["--ephemeral", "--hubs", "1", "--clusters", "2"]).await;
    let kubeconfig = format!("--kubeconfig={}", fleet.kubeconfig().display());
    let folder = tempfile::tempdir().unwrap();
    let follow = |name: &str, more: &[&str]| {
        let args = [&[kubeconfig.as_str()], more].concat();
        Process::start(name, Path::new(program()), args, folder.path()).unwrap()
    };
    let followed = follow("works", &["works", "--watch"]);
    let documents = follow("documents", &["clusters", "--watch", "--output", "json"]);
    let hub = fleet.client("hub1").await.unwrap();
    let all = works(&hub, "cluster1");
    apply(&all, &work("web", "cluster1", &[config_map("a", "1")]))
        .await
        .unwrap();
    good(&all, "web").await;
    let row = ["cluster1", "web", "True", "True"].map(str::to_owned);
    eventually("the line of the work", LONG, async || {
        let log = followed.log();
        let cells = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut lines = log.lines().map(cells);
        ensure!(lines.any(|cells| cells.starts_with(&row)), "{log}");
        Ok(())
    })
    .await
    .unwrap();

    let clusters = crate::world::api(
        &hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let shut = Patch::Merge(json!({"spec": {"hubAcceptsClient": false}}));
    let shut = clusters
        .patch("cluster2", &PatchParams::default(), &shut)
        .await
        .unwrap();
    eventually("the document of the cluster", LONG, async || {
        let log = documents.log();
        let last = log.lines().last().unwrap_or_default();
        let seen: Value = serde_json::from_str(last)?;
        let first = &seen["clusters"][0];
        ensure!(
            first["name"] == shut.name_any() && first["accepted"] == false,
            "{last}"
        );
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(fleet.stop().unwrap(), Some(0));
}
