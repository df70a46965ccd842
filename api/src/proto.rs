//! Messages and service of the API, generated from `proto/prefetch.proto`, where they are specified.

#![allow(missing_docs, clippy::all)]

use serde::Serializer;

tonic::include_proto!("cvmfs_prefetch.v1");

/// The compiled proto file, for gRPC's reflection service.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("prefetch");

impl RequestState {
    /// The state in lower case, as it appears in JSON, metrics and logs: "no_bundle".
    pub fn name(self) -> String {
        self.as_str_name().trim_start_matches("REQUEST_STATE_").to_lowercase()
    }

    /// Every state.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(|number| Self::try_from(number).ok())
    }
}

impl Priority {
    /// The priority in lower case, as it appears in JSON and logs: "high".
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
