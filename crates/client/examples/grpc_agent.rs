//! An agent over gRPC: reports every work of its cluster as applied, without applying it, and lets go what is deleted.
//!
//! ```sh
//! cargo run -p drover-client --example grpc_agent -- 127.0.0.1:8090 cluster1
//! ```
#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::sync::Arc;

use drover_client::prelude::*;
use drover_client::protocol::names::WORK_FINALIZER;
use drover_client::transport::grpc::{GrpcConfig, GrpcTransport};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or("127.0.0.1:8090".to_owned());
    let cluster = args.next().unwrap_or("cluster1".to_owned());
    let transport = GrpcTransport::new(GrpcConfig::new(url));
    let options = AgentOptions::new(format!("{cluster}-work-agent"), cluster);
    let (works, driver) = AgentWorks::new(options, Arc::new(transport));
    tokio::spawn(driver.run(CancellationToken::new()));

    let mut changes = works.watch();
    while let Some(change) = changes.next().await {
        let meta = &change.object().metadata;
        println!("{} at generation {}", meta.name, meta.generation);
        if matches!(change, Change::StatusModified(_) | Change::Deleted(_)) {
            continue;
        }
        if meta.deleting() {
            works.remove_finalizer(&meta.uid, WORK_FINALIZER)?;
        } else {
            works.add_finalizer(&meta.uid, WORK_FINALIZER)?;
            let applied = ("Applied", "True", "Pretended");
            let mut status = change.object().status.clone();
            status.conditions = vec![Condition::at(Timestamp::now(), applied, meta.generation)];
            works.set_status(&meta.uid, status)?;
        }
    }
    Ok(())
}
