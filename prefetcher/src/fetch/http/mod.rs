//! HTTP: the client of each proxy ([`client`]), the authorities that it trusts ([`ca`]) and one response ([`download`]).

mod ca;
pub mod client;
pub mod download;
