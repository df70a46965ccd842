//! A TCP relay that stands for distance: a round-trip time and bandwidth limits, between a client and a server that
//! both run on loopback.
//!
//! Every byte is delayed, each way, by half of the round-trip time; bytes on their way do not wait for each other, as
//! on a real line. A new connection costs one more round trip before its first byte can travel (TCP's handshake).
//! Bandwidth is limited per connection and for all together, in each direction on its own. A connection may open as slowly
//! as TCP does, see [`window`]. There is no loss.

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

/// What the kernel keeps, at the receiver's end, of what is not read, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// What a line is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineSpec {
    /// Time from the client to the server and back.
    pub round_trip: Duration,
    /// Limit for all connections together, each way.
    pub total_bytes_per_second: Option<u64>,
    /// Limit for one connection, each way.
    pub connection_bytes_per_second: Option<u64>,
    /// Connections begin with few bytes on their way, and with twice as many after each round trip.
    pub slow_start: bool,
}

impl LineSpec {
    /// A line of this round-trip time without limits of bandwidth.
    pub fn with_round_trip(round_trip: Duration) -> Self {
        Self { round_trip, ..Self::default() }
    }
}

/// What the connections of a line watch.
#[derive(Debug, Clone, Copy)]
struct State {
    spec: LineSpec,
    /// Unplugged: nothing arrives.
    cut: bool,
    /// Increased to break connections.
    generation: u64,
}

/// A running line; its connections break when it is dropped.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    state: watch::Sender<State>,
    received: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Line {
    /// Starts a line to `target`.
    pub fn start(target: SocketAddr, spec: LineSpec) -> Result<Self> {
        let _context = super::RUNTIME.enter();
        let (listener, address) = super::listen()?;
        let (state, watcher) = watch::channel(State { spec, cut: false, generation: 0 });
        let received = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, target, watcher, Arc::clone(&received))).abort_handle();
        Ok(Self { address, state, received, task })
    }

    /// The client's end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have come from the server so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Changes the line for bytes that set off from now on.
    pub fn set(&self, spec: LineSpec) {
        self.state.send_modify(|state| state.spec = spec);
    }

    /// Unplugs the line: what is on its way and what is sent from now on does not arrive, but nothing breaks.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Plugs the line in again; everything arrives that has been waiting.
    pub fn restore(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Breaks all open connections.
    pub fn break_connections(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Line {
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
                tracing::warn!(%error, "line cannot accept a connection");
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
        Err(error) => return tracing::warn!(%error, %target, "line cannot reach its target"),
    };
    // Without effect on what is carried: a line that cannot set it only batches more.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    if state.borrow().spec.slow_start {
        // What the receiver does not read must not seem to have arrived.
        let _ = setsockopt(&client, SndBuf, &SEND_BUFFER);
    }
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    let up = Direction { state: state.clone(), total: total_up, opens: handshake_done, carried: Arc::default() };
    let down = Direction { state, total: total_down, opens: handshake_done, carried: received };
    let (up, down) = tokio::join!(up.carry(client_reader, server_writer), down.carry(server_reader, client_writer));
    for error in [up.err(), down.err()].into_iter().flatten() {
        tracing::debug!(%error, "connection over a line ended");
    }
}
