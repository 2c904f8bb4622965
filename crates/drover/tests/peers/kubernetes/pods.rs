//! Hub and agent with the credentials of a pod, and no others.

use drover_testkit::eventually;
use serde_json::json;

use super::bed::{Bed, CLUSTER};
use crate::world::{GOOD, LONG, api, apply, conditions, config_map, field, good, work, works};

/// A client keeps a token for a minute.
const READ_AGAIN: std::time::Duration = LONG.saturating_mul(2);

#[tokio::test(flavor = "multi_thread")]
async fn pods_use_their_service_account_and_notice_a_new_token() {
    let bed = Bed::start_as_pods().await;
    let shop = works(&bed.hub, CLUSTER);
    let maps = api(&bed.cluster, "v1/ConfigMap", Some("default"));
    let first = work("w", CLUSTER, &[config_map("a", "1")]);
    apply(&shop, &first).await.unwrap();
    good(&shop, "w").await;
    field(&maps, "a", "/data/value", "1").await;

    // The old tokens are worth nothing from now on; nobody is started again.
    bed.rotate().await;
    let second = work("w", CLUSTER, &[config_map("a", "2")]);
    let written = async || apply(&shop, &second).await;
    eventually("a hub that judges", READ_AGAIN, written)
        .await
        .unwrap();
    let done = async || {
        let map = maps.get("a").await?;
        anyhow::ensure!(map.data["data"]["value"] == json!("2"), "{map:?}");
        let seen = conditions(&shop.get("w").await?);
        let all = GOOD.iter().all(|want| seen.iter().any(|have| have == want));
        anyhow::ensure!(all, "{seen:?}");
        Ok(())
    };
    let done = eventually("the work with the new tokens", READ_AGAIN, done).await;
    done.unwrap();
    bed.stop().await;
}
