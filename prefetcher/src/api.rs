//! The gRPC API, generated from `proto/prefetch.proto`, where it is specified.

#![allow(missing_docs, clippy::all)]

use serde::Serializer;

tonic::include_proto!("cvmfs_prefetch.v1");

/// For gRPC's reflection service.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("prefetch");

impl RequestState {
    /// One word for people and JSON: "no_bundle".
    pub fn name(self) -> String {
        self.as_str_name().trim_start_matches("REQUEST_STATE_").to_lowercase()
    }

    /// Every state.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(|number| Self::try_from(number).ok())
    }
}

impl Priority {
    /// One word for people and JSON: "high".
    pub fn name(self) -> String {
        self.as_str_name().trim_start_matches("PRIORITY_").to_lowercase()
    }
}

fn state_name<S: Serializer>(state: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&RequestState::try_from(*state).unwrap_or_default().name())
}

fn priority_name<S: Serializer>(priority: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Priority::try_from(*priority).unwrap_or_default().name())
}
