//! When a container is ready.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracer_ebpf::cri::log;

/// How often it is looked for.
const POLL: Duration = Duration::from_millis(2);

/// Waits until a container has written something to its standard output.
pub(super) async fn first_output(log: &Path) {
    while !std::fs::read_to_string(log).is_ok_and(|text| !log::parse(&text).stdout.is_empty()) {
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until an HTTP request to a port of this machine is answered.
pub(super) async fn answered(port: u16) {
    while get(port).await.is_err() {
        tokio::time::sleep(POLL).await;
    }
}

/// A port that nobody has.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn get(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "not the answer");
    Ok(())
}
