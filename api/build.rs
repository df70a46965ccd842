//! Generates the gRPC API from `proto/prefetch.proto`; comments there become the documentation of the Rust types.

use std::path::PathBuf;

/// Messages that the command line prints as JSON.
const PRINTED: [&str; 6] = ["Image", "RequestStatus", "Tally", "StoredBundle", "ListReply", "WaitCriticalReply"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("prefetch.bin");
    let mut builder = tonic_prost_build::configure().file_descriptor_set_path(descriptors);
    for message in PRINTED {
        let path = format!(".cvmfs_prefetch.v1.{message}");
        builder = builder.message_attribute(path, "#[derive(serde::Serialize)]");
    }
    for (field, name) in [("state", "state_name"), ("priority", "priority_name")] {
        let path = format!(".cvmfs_prefetch.v1.RequestStatus.{field}");
        builder = builder.field_attribute(path, format!("#[serde(serialize_with = \"{name}\")]"));
    }
    builder.compile_protos(&["proto/prefetch.proto"], &["proto"])?;
    Ok(())
}
