//! Generates the gRPC API from `proto/prefetch.proto`; its comments become the documentation of the Rust types.

fn main() -> std::io::Result<()> {
    tonic_prost_build::compile_protos("proto/prefetch.proto")
}
