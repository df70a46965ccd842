//! The daemon's interfaces: the gRPC API ([`grpc`]) on its Unix socket and over TCP, and metrics ([`listen`]).

pub mod grpc;
mod large_messages;
pub mod listen;
mod status_stream;
