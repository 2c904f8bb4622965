//! Cluster sets and placements on the embedded API.

use drover_apiserver::store::Database;
use tokio_util::sync::CancellationToken;

use crate::hub::{TestHub, embedded};
use crate::placing;

#[tokio::test(flavor = "multi_thread")]
async fn sets_and_placements_on_the_embedded_api() {
    let stop = CancellationToken::new();
    let database = Database::memory();
    let api = embedded(&database, &stop).await;
    let mut hub = TestHub::start(&api, Vec::new()).await;
    placing::sets(&api).await;
    placing::decisions(&api).await;
    placing::reasons(&api).await;
    hub.stop().await;
    stop.cancel();
}
