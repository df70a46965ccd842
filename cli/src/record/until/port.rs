//! A TCP port that answers, asked as a kubelet's `tcpSocket` probe does: by a connection that is closed at once.
//!
//! Recorded containers use the host's network, so the port is one of the loopback interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// The loopback interface answers at once, unless the listener's queue is full.
const LIMIT: Duration = Duration::from_secs(1);

pub(crate) async fn answers(port: u16) -> bool {
    for address in ADDRESSES {
        let connected = timeout(LIMIT, TcpStream::connect((address, port))).await;
        // A connection to a port of the range from which its own is taken can meet itself.
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
    async fn a_port_answers_while_somebody_listens() {
        for address in ADDRESSES {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(answers(port).await, "{address}");
            drop(listener);
            assert!(!answers(port).await, "{address}");
        }
    }
}
