//! A source of anything that travels as a whole Kubernetes object, here add-ons: a type of one's own, and a patch.
//!
//! ```sh
//! cargo run -p drover-client --example object_source -- 127.0.0.1:8090 cluster1
//! ```
#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::sync::Arc;

use drover_client::prelude::*;
use drover_client::transport::grpc::{GrpcConfig, GrpcTransport};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct AddOn {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    install_namespace: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or("127.0.0.1:8090".to_owned());
    let cluster = args.next().unwrap_or("cluster1".to_owned());
    let transport = Arc::new(GrpcTransport::new(GrpcConfig::new(url)));
    let options = SourceOptions::new("hub-a");
    let (addons, driver) =
        SourceObjects::<AddOn>::new(options, &DataType::ADDONS_V1ALPHA1, transport)?;
    tokio::spawn(driver.run(CancellationToken::new()));

    let metadata = ObjectMeta {
        name: "proxy".to_owned(),
        namespace: cluster.clone(),
        ..ObjectMeta::default()
    };
    let spec = Spec {
        install_namespace: "proxies".to_owned(),
    };
    addons.create(&AddOn { metadata, spec })?;
    let elsewhere = json!({"spec": {"installNamespace": "elsewhere"}});
    addons.patch(&cluster, "proxy", &Patch::Merge(elsewhere))?;
    let mut changes = addons.untyped().watch();
    while let Some(change) = changes.next().await {
        let addon = change.object();
        println!("{} {:?}", addon.metadata.name, addon.field("status"));
    }
    Ok(())
}
