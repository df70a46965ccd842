//! Waiting for a container to be ready.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracer_ebpf::cri::log;

/// Interval of the checks.
const POLL: Duration = Duration::from_millis(2);

/// Waits until a container has written to its standard output.
pub(super) async fn first_output(log: &Path) {
    while !std::fs::read_to_string(log).is_ok_and(|text| !log::parse(&text).stdout.is_empty()) {
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until an HTTP server answers on a local port.
pub(super) async fn wait_for_http(port: u16) {
    while get(port).await.is_err() {
        tokio::time::sleep(POLL).await;
    }
}

/// A free local TCP port.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn get(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    ensure!(response.starts_with(b"HTTP/1.1 200"), "unexpected HTTP response");
    Ok(())
}
