//! A source over MQTT: gives one work to a cluster and prints what comes of it.
//!
//! ```sh
//! cargo run -p drover-client --features mqtt --example mqtt_source -- 127.0.0.1:1883 cluster1
//! ```
#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::sync::Arc;

use drover_client::prelude::*;
use drover_client::protocol::topics::{TopicNames, Topics};
use drover_client::transport::mqtt::{MqttConfig, MqttTransport};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let broker = args.next().unwrap_or("127.0.0.1:1883".to_owned());
    let cluster = args.next().unwrap_or("cluster1".to_owned());
    let topics = Topics::new(&TopicNames {
        source_events: "sources/hub-a/clusters/+/sourceevents".to_owned(),
        agent_events: "sources/hub-a/clusters/+/agentevents".to_owned(),
        source_broadcast: "sources/+/sourcebroadcast".to_owned(),
        agent_broadcast: "clusters/+/agentbroadcast".to_owned(),
    })?;
    let transport = MqttTransport::new(MqttConfig::new(broker, "hub-a", topics));
    let (works, driver) = SourceWorks::new(SourceOptions::new("hub-a"), Arc::new(transport));
    tokio::spawn(driver.run(CancellationToken::new()));

    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "hello", "namespace": "default"}, "data": {"from": "hub-a"}});
    works.create(Work::new(&cluster, "hello", [manifest])?)?;
    let mut changes = works.watch();
    while let Some(change) = changes.next().await {
        let work = change.object();
        println!("{} {:?}", work.metadata.name, work.status.conditions);
    }
    Ok(())
}
