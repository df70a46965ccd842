//! The gRPC API, generated from `proto/prefetch.proto`, where it is specified.

#![allow(missing_docs, clippy::all)]

tonic::include_proto!("cvmfs_prefetch.v1");
