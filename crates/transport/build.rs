//! Compiles the messages without an external compiler, and the service with a codec that leaves messages as bytes.

#[cfg(feature = "grpc")]
use tonic_prost_build::manual::{Builder, Method, MethodBuilder, Service};

#[cfg(feature = "grpc")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/cloudevent.proto"], ["proto"])?;
    let mut prost = tonic_prost_build::Config::new();
    prost.bytes(["."]).btree_map(["."]);
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_fds_with_config(descriptors, prost)?;
    let service = Service::builder()
        .name("CloudEventService")
        .package("io.cloudevents.v1")
        .method(method("publish", "Publish").build())
        .method(method("subscribe", "Subscribe").server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
    Ok(())
}

#[cfg(feature = "grpc")]
fn method(name: &str, route: &str) -> MethodBuilder {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type("bytes::Bytes")
        .output_type("bytes::Bytes")
        .codec_path("crate::grpc::codec::RawCodec")
}

#[cfg(not(feature = "grpc"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
