//! A broker over gRPC where sources and agents meet: in the clear and open to everybody, for trying things out.
//!
//! ```sh
//! cargo run -p drover-client --example grpc_broker -- 127.0.0.1:8090
//! ```

use drover_client::prelude::*;
use drover_client::transport::{Broker, BrokerConfig};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.unwrap_or("127.0.0.1:8090".to_owned())).await?;
    let broker = Broker::new(BrokerConfig::open("broker"));
    broker.relay(DataType::MANIFEST_BUNDLES);
    broker.relay(DataType::ADDONS_V1ALPHA1);
    Ok(broker
        .serve(listener, None, CancellationToken::new())
        .await?)
}
