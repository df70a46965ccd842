//! `--until-port`: a TCP port that accepts a connection, as for a kubelet's `tcpSocket` probe.
//!
//! Recorded containers use the host's network, so the port is on the loopback interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// The loopback interface answers at once, unless the listener's queue is full.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn answers(port: u16) -> bool {
    for address in ADDRESSES {
        let connected = timeout(TIMEOUT, TcpStream::connect((address, port))).await;
        // A connection to an ephemeral port can be connected to itself.
        if let Ok(Ok(stream)) = connected
            && stream.local_addr().ok() != stream.peer_addr().ok()
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_answers_while_a_listener_exists() {
        for address in ADDRESSES {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(answers(port).await, "{address}");
            drop(listener);
            assert!(!answers(port).await, "{address}");
        }
    }
}
