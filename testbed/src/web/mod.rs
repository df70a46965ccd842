//! The network between the repository and its clients: an [`origin`] (Stratum 1), a [`link`] with latency and bandwidth, and
//! optionally a [`squid`].
//!
//! Origin and links have their own runtime, so that a test that blocks (by reading a file of a mount) never blocks the servers
//! that the mount waits for.

pub mod link;
pub mod origin;
pub mod squid;

use std::sync::LazyLock;

use tokio::runtime::Runtime;

pub use link::{LinkEmulator, LinkSpec};
pub use origin::{Fault, Origin, Request, Totals};
pub use squid::Squid;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("web")
        .enable_all()
        .build()
        .expect("the runtime of the web servers starts")
});

/// Binds a free loopback port. Must be called within [`RUNTIME`]'s context.
fn listen() -> std::io::Result<(tokio::net::TcpListener, std::net::SocketAddr)> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((tokio::net::TcpListener::from_std(listener)?, address))
}
