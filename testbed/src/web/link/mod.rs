//! A link emulator: a TCP relay that adds a round-trip time and bandwidth limits between a client and a server on loopback.
//!
//! Every byte is delayed by half of the round-trip time in each direction; bytes in flight do not wait for each other, as on a
//! real link. A new connection takes one more round trip before its first byte (TCP's handshake). Bandwidth is limited per
//! connection and in total, separately in each direction. A connection may go through slow start, see [`window`]. There is no
//! loss.

mod bucket;
mod direction;
mod window;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use bucket::Bucket;
use direction::Direction;

/// Bytes that the kernel buffers at the receiver's end.
const SEND_BUFFER: usize = 64 << 10;

/// Properties of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkSpec {
    /// Round-trip time between client and server.
    pub round_trip: Duration,
    /// Bandwidth limit of all connections together, per direction.
    pub total_bytes_per_second: Option<u64>,
    /// Bandwidth limit of one connection, per direction.
    pub connection_bytes_per_second: Option<u64>,
    /// Connections go through TCP slow start.
    pub slow_start: bool,
}

impl LinkSpec {
    /// A link with this round-trip time and unlimited bandwidth.
    pub fn with_round_trip(round_trip: Duration) -> Self {
        Self { round_trip, ..Self::default() }
    }
}

/// State shared with the connections of a link.
#[derive(Debug, Clone, Copy)]
struct State {
    spec: LinkSpec,
    /// Nothing arrives while the link is cut.
    cut: bool,
    /// Increased to break connections.
    generation: u64,
}

/// A running link; its connections break when it is dropped.
#[derive(Debug)]
pub struct LinkEmulator {
    address: SocketAddr,
    state: watch::Sender<State>,
    received: Arc<AtomicU64>,
    task: AbortHandle,
}

impl LinkEmulator {
    /// Starts a link to the server at `target`.
    pub fn start(target: SocketAddr, spec: LinkSpec) -> Result<Self> {
        let _context = super::RUNTIME.enter();
        let (listener, address) = super::listen()?;
        let (state, watcher) = watch::channel(State { spec, cut: false, generation: 0 });
        let received = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, target, watcher, Arc::clone(&received))).abort_handle();
        Ok(Self { address, state, received, task })
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes received from the server so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Changes the properties for bytes sent from now on.
    pub fn set(&self, spec: LinkSpec) {
        self.state.send_modify(|state| state.spec = spec);
    }

    /// Cuts the link: nothing arrives, neither bytes in flight nor later ones, but no connection breaks.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Restores a cut link; everything that waited arrives.
    pub fn restore(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Breaks all open connections.
    pub fn break_connections(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for LinkEmulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections until aborted, which ends the connections, too.
async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<State>, received: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    let up = Arc::new(Mutex::new(Bucket::default()));
    let down = Arc::new(Mutex::new(Bucket::default()));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "link cannot accept a connection");
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (up, down, state) = (Arc::clone(&up), Arc::clone(&down), state.clone());
        let received = Arc::clone(&received);
        connections.spawn(async move {
            let mut broken = state.clone();
            let generation = state.borrow().generation;
            tokio::select! {
                () = connection(stream, target, (up, down), state, received) => {}
                _ = broken.wait_for(|state| state.generation != generation) => {}
            }
        });
    }
}

async fn connection(
    client: TcpStream,
    target: SocketAddr,
    (total_up, total_down): (Arc<Mutex<Bucket>>, Arc<Mutex<Bucket>>),
    state: watch::Receiver<State>,
    received: Arc<AtomicU64>,
) {
    let handshake_done = Instant::now() + state.borrow().spec.round_trip;
    let server = match TcpStream::connect(target).await {
        Ok(server) => server,
        Err(error) => return tracing::warn!(%error, %target, "link cannot reach its target"),
    };
    // If this fails, bytes are only batched more.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    if state.borrow().spec.slow_start {
        // Unread bytes must not count as arrived.
        let _ = setsockopt(&client, SndBuf, &SEND_BUFFER);
    }
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    let up = Direction { state: state.clone(), total: total_up, opens: handshake_done, carried: Arc::default() };
    let down = Direction { state, total: total_down, opens: handshake_done, carried: received };
    let (up, down) = tokio::join!(up.carry(client_reader, server_writer), down.carry(server_reader, client_writer));
    for error in [up.err(), down.err()].into_iter().flatten() {
        tracing::debug!(%error, "connection over a link ended");
    }
}
