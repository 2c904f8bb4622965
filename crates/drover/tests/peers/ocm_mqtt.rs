//! OCM's own work agent behind an MQTT broker, where Drover's hub is the source.

use std::sync::Arc;

use drover_apiserver::store::Database;
use drover_hub::WorkSource;
use drover_protocol::topics::{TopicNames, Topics};
use drover_testkit::ocm::{MqttConfig, namespace};
use drover_testkit::{Mosquitto, MosquittoOptions};
use drover_transport::identity::{ClientTls, Pem};
use drover_transport::mqtt::{self, MqttTransport};
use kube::Client;
use kube::api::DeleteParams;
use tokio_util::sync::CancellationToken;

use crate::hub::{TestHub, embedded};
use crate::ocm::{AGENT_AWAY, APPLIES, CLUSTER, Spoke, agent_away, applies, note};
use crate::world::{apply, config_map, field, gone, good, work, works};

const SOURCE: &str = "hub1";

/// A hub on an embedded API that is a source behind the broker.
async fn hub(
    broker: &Mosquitto,
    database: &Database,
    stop: &CancellationToken,
) -> (Client, TestHub) {
    let pair = broker.authority().client("hub", "hub1").unwrap();
    let topics = TopicNames {
        source_events: format!("sources/{SOURCE}/clusters/+/sourceevents"),
        agent_events: format!("sources/{SOURCE}/clusters/+/agentevents"),
        source_broadcast: "sources/+/sourcebroadcast".to_owned(),
        agent_broadcast: "clusters/+/agentbroadcast".to_owned(),
    };
    let topics = Topics::new(&topics).unwrap();
    let mut config = mqtt::MqttConfig::new(broker.address(), "hub1-works", topics);
    config.tls = Some(ClientTls {
        ca: Some(Pem::File(broker.authority().ca())),
        identity: Some((Pem::File(pair.cert), Pem::File(pair.key))),
        ..ClientTls::default()
    });
    let source = WorkSource {
        id: SOURCE.to_owned(),
        transport: Arc::new(MqttTransport::new(config)),
    };
    let api = embedded(database, stop).await;
    namespace(&api, CLUSTER).await.unwrap();
    let hub = TestHub::start(&api, vec![source]).await;
    (api, hub)
}

#[tokio::test(flavor = "multi_thread")]
async fn ocms_work_agent_works_for_a_hub_over_mqtt() {
    let options = MosquittoOptions {
        tls: true,
        require_cert: true,
        ..MosquittoOptions::default()
    };
    let (broker, spoke) = tokio::join!(Mosquitto::start(options), Spoke::start());
    let (mut broker, spoke) = (broker.unwrap(), spoke.unwrap());
    let (database, stop) = (Database::memory(), CancellationToken::new());
    let (api, mut hub) = hub(&broker, &database, &stop).await;
    let pair = broker.authority().client("agent", "ocm1").unwrap();
    let config = MqttConfig {
        broker: broker.address(),
        tls: Some([broker.authority().ca(), pair.cert, pair.key]),
        source: SOURCE.to_owned(),
        cluster: CLUSTER.to_owned(),
        ..MqttConfig::default()
    };
    let config = spoke.agents.mqtt(&config).unwrap();
    let mut agent = spoke.agents.work("mqtt", &config).await.unwrap();
    applies(&api, &spoke).await;

    // The hub is away while a work changes and another one is deleted, then the broker is.
    let shops = works(&api, CLUSTER);
    let brief = work("brief", CLUSTER, &[config_map("brief", "1")]);
    apply(&shops, &brief).await.unwrap();
    good(&shops, "brief").await;
    hub.stop().await;
    shops
        .delete("brief", &DeleteParams::default())
        .await
        .unwrap();
    let third = work("shop", CLUSTER, &[config_map("a", "3")]);
    apply(&shops, &third).await.unwrap();
    hub.restart().await;
    gone(&shops, "brief").await;
    gone(&spoke.maps(), "brief").await;
    field(&spoke.maps(), "a", "/data/value", "3").await;
    good(&shops, "shop").await;
    broker.kill();
    let fourth = work("shop", CLUSTER, &[config_map("a", "4")]);
    apply(&shops, &fourth).await.unwrap();
    broker.restart().await.unwrap();
    field(&spoke.maps(), "a", "/data/value", "4").await;
    good(&shops, "shop").await;

    agent_away(&api, &spoke, &mut agent, "mqtt", &config).await;
    hub.stop().await;
    stop.cancel();
    note(
        "ocm-mqtt",
        "OCM's work agent 1.2.1 and a hub of Drover's that is a source behind mosquitto (TLS, certificates on both sides):",
        &[
            APPLIES,
            "the hub is stopped, a work is changed and another one deleted, the hub is started again",
            "the broker is killed, a work is changed, the broker is started again",
            AGENT_AWAY,
        ],
    );
}
