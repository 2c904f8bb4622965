//! The embedded API alone.

use std::time::Duration;

use anyhow::ensure;
use drover_testkit::{Process, eventually, fleet};
use kube::ResourceExt;

use crate::world::{LONG, api, apply, config_map, program};

#[tokio::test]
async fn one_api_serves_and_keeps_its_objects() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let args = [
        "apiserver",
        "--data",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ];
    let mut versions = Vec::new();
    for _ in 0..2 {
        let mut process = Process::start("apiserver", program(), args, folder.path()).unwrap();
        process
            .wait_for(LONG, async || process_says(folder.path(), "serves"))
            .await
            .unwrap();
        let client = fleet::client(&data.join("kubeconfig"), "apiserver")
            .await
            .unwrap();
        let maps = api(&client, "v1/ConfigMap", Some("default"));
        let made = apply(&maps, &config_map("kept", "1")).await.unwrap();
        versions.push(made.resource_version().unwrap());
        // What every cluster has appears by itself.
        let root = async || {
            ensure!(maps.get_opt("kube-root-ca.crt").await?.is_some());
            Ok(())
        };
        eventually("the root certificates", LONG, root)
            .await
            .unwrap();
        assert_eq!(process.terminate(Duration::from_secs(20)).unwrap(), Some(0));
    }
    assert_eq!(
        versions[0], versions[1],
        "the same object applied again is the same version"
    );
}

fn process_says(folder: &std::path::Path, word: &str) -> bool {
    std::fs::read_to_string(folder.join("apiserver.log")).is_ok_and(|text| text.contains(word))
}
