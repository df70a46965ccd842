//! HTTP: the client of each proxy ([`client`]), the authorities that it trusts ([`ca`]) and one response ([`response`]).

mod ca;
pub mod client;
pub mod response;
