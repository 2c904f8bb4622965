//! What goes wrong around the program.

use std::process::Command;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::world::{api, apply, config_map, field, good, program, up, work, works};

/// The one line that a failing command writes.
fn refused(args: &[&str]) -> String {
    let output = Command::new(program())
        .args(args)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{args:?} succeeded");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{args:?} wrote {text}");
    assert!(text.starts_with("drover: "), "{text}");
    text.trim_end().to_owned()
}

#[tokio::test]
async fn a_second_fleet_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let first = up(&["--data", data, "--hubs", "1", "--clusters", "1"]).await;
    let text = refused(&["up", "--data", data]);
    assert!(
        text.contains(data) && text.contains("in use by another process"),
        "{text}"
    );
    assert_eq!(first.stop().unwrap(), Some(0));
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = refused(&["up", "--ephemeral", "--listen", &address]);
    assert!(
        text.contains(&address) && text.contains("choose another address with --listen"),
        "{text}"
    );
}

#[test]
fn folders_and_files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let inside = file.join("data");
    let text = refused(&["up", "--data", inside.to_str().unwrap()]);
    assert!(
        text.contains(inside.to_str().unwrap()) && text.contains("--data"),
        "{text}"
    );

    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("drover.db"), vec![b'x'; 8192]).unwrap();
    let text = refused(&["up", "--data", data.to_str().unwrap()]);
    assert!(
        text.contains("drover.db") && text.contains("move it away"),
        "{text}"
    );
    assert_eq!(
        std::fs::read(data.join("drover.db")).unwrap(),
        vec![b'x'; 8192],
        "a file that is not ours is not touched"
    );

    let text = refused(&["status"]);
    assert!(
        text.contains("no kubeconfig") && text.contains("drover up"),
        "{text}"
    );
}

/// Kills the fleet at a random moment while it is written to, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_crash() {
    const ROUNDS: u64 = 50;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap().to_owned();
    let args = ["--data", &data, "--hubs", "1", "--clusters", "1"];
    let mut random = SmallRng::seed_from_u64(7);
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    let mut highest = 0;
    for round in 0..ROUNDS {
        let fleet = up(&args).await;
        let hub = fleet.client("hub1").await.unwrap();
        let maps = api(&hub, "v1/ConfigMap", Some("default"));
        let list = maps.list(&ListParams::default()).await.unwrap();
        let revision: u64 = list.metadata.resource_version.unwrap().parse().unwrap();
        assert!(
            revision >= highest,
            "round {round}: revision {revision} after {highest}"
        );
        for (name, version) in &acknowledged {
            let found = list.items.iter().find(|map| map.name_any() == *name);
            let found = found.unwrap_or_else(|| panic!("round {round}: {name} is lost"));
            let now: u64 = found.resource_version().unwrap().parse().unwrap();
            assert!(now >= *version, "round {round}: {name} went back to {now}");
            assert_eq!(
                found.data["data"]["value"], "whole",
                "round {round}: {name} is half-written"
            );
        }
        let shop = works(&hub, "cluster1");
        apply(
            &shop,
            &work(
                "steady",
                "cluster1",
                &[config_map("steady", &round.to_string())],
            ),
        )
        .await
        .unwrap();
        if round % 10 == 9 {
            let cluster = fleet.client("cluster1").await.unwrap();
            good(&shop, "steady").await;
            field(
                &api(&cluster, "v1/ConfigMap", Some("default")),
                "steady",
                "/data/value",
                &round.to_string(),
            )
            .await;
        }
        let writer = tokio::spawn(async move {
            let mut written = Vec::new();
            for i in 0..10_000 {
                let name = format!("r{round}-{i}");
                let mut map = config_map(&name, "whole");
                map["data"]["padding"] = json!("x".repeat(500));
                let object = serde_json::from_value(map).unwrap();
                let Ok(made) = maps.create(&PostParams::default(), &object).await else {
                    return written;
                };
                written.push((
                    name,
                    made.resource_version().unwrap().parse::<u64>().unwrap(),
                ));
            }
            written
        });
        tokio::time::sleep(Duration::from_millis(random.random_range(1..150))).await;
        fleet.kill();
        let written = writer.await.unwrap();
        highest = written
            .iter()
            .map(|(_, version)| *version)
            .max()
            .unwrap_or(0)
            .max(highest);
        acknowledged.extend(written);
    }
    assert!(
        acknowledged.len() > 50,
        "only {} writes: the test wrote next to nothing",
        acknowledged.len()
    );
}
