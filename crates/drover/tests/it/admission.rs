//! The rules of a hub inside the embedded API.

use std::path::Path;

use anyhow::{Context as _, ensure};
use drover_testkit::{Process, eventually};
use kube::api::DeleteParams;
use serde_json::json;

use crate::judged::{self, Judged, merge};
use crate::world::{LONG, program};

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_api_judges_the_kinds_of_a_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let args = [
        "apiserver".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        format!("--write-kubeconfig={}", kubeconfig.display()),
    ];
    let _process = Process::start("apiserver", program(), args, folder.path()).unwrap();
    says(&folder.path().join("apiserver.log"), "serves").await;
    let judged = Judged::prepare(&kubeconfig).await;
    judged.wait_until_judged().await;
    judged::scenario(&judged).await;
    // An object that is not valid is told so by the API itself.
    let clusters = judged::clusters(&judged.admin);
    let wrong = merge(
        &clusters,
        "one",
        json!({"spec": {"hubAcceptsClient": "yes"}}),
    )
    .await;
    let Err(kube::Error::Api(status)) = wrong else {
        panic!("{wrong:?}");
    };
    assert_eq!(status.code, 422, "{}", status.message);
    clusters
        .delete("two", &DeleteParams::default())
        .await
        .unwrap();
}

/// Waits for a line of a log.
async fn says(log: &Path, word: &str) {
    let check = async || {
        let text = std::fs::read_to_string(log).context("no log")?;
        ensure!(text.contains(word), "{text}");
        Ok(())
    };
    eventually(word, LONG, check).await.unwrap();
}
