//! The common scenarios on embedded APIs.

use crate::suite::{Fleet, run};
use crate::world::up;

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_on_the_embedded_api() {
    let fleet = up(&["--ephemeral", "--hubs", "1", "--clusters", "1"]).await;
    run(&Fleet {
        hub: fleet.client("hub1").await.unwrap(),
        cluster: fleet.client("cluster1").await.unwrap(),
        name: "cluster1".to_owned(),
        kubeconfig: fleet.kubeconfig(),
        context: "hub1".to_owned(),
    })
    .await;
    assert_eq!(fleet.stop().unwrap(), Some(0));
}
