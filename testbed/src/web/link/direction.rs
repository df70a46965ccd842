//! One direction of a connection: read, limit, delay, write.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::State;
use super::bucket::Bucket;
use super::window::{Arrival, Window};

/// Largest number of bytes per read.
const LARGEST_PIECE: usize = 64 * 1024;
/// Smallest piece (one Ethernet frame), however low the bandwidth.
const SMALLEST_PIECE: usize = 1460;
/// Longest transmission time of a piece at limited bandwidth, so that connections share it fairly.
const PIECE_TIME: Duration = Duration::from_millis(5);

pub(super) struct Direction {
    pub(super) state: watch::Receiver<State>,
    /// Bandwidth limit of all connections together.
    pub(super) total: Arc<Mutex<Bucket>>,
    /// End of the handshake.
    pub(super) opens: Instant,
    /// Bytes carried so far.
    pub(super) carried: Arc<AtomicU64>,
}

/// Bytes in flight; an empty piece is the end of the stream.
struct Piece {
    bytes: Bytes,
    arrives: Instant,
}

impl Direction {
    /// Carries bytes until the sender has finished and all of them have arrived, or one side is gone.
    pub(super) async fn carry(self, from: OwnedReadHalf, to: OwnedWriteHalf) -> std::io::Result<()> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let state = self.state.clone();
        let sent = self.send(from, sender, Window::new(arrivals));
        let (read, written) = tokio::join!(sent, receive(receiver, to, state, arrived));
        read.and(written)
    }

    async fn send(
        self,
        from: OwnedReadHalf,
        pieces: mpsc::UnboundedSender<Piece>,
        mut window: Window,
    ) -> std::io::Result<()> {
        let mut own = Bucket::default();
        let mut buffer = BytesMut::new();
        loop {
            tokio::select! {
                readable = from.readable() => readable?,
                // The receiver is gone.
                () = pieces.closed() => return Ok(()),
            }
            // The link may have been changed while nothing was sent.
            let spec = self.state.borrow().spec;
            let Some(available) = window.available(&spec).await else { return Ok(()) };
            let limits = [spec.total_bytes_per_second, spec.connection_bytes_per_second];
            buffer.reserve(LARGEST_PIECE);
            let mut piece = (&mut buffer).limit(piece_size(limits.into_iter().flatten().min()).min(available));
            let count = match from.try_read_buf(&mut piece) {
                Ok(count) => count,
                // All data was read: the properties may change before more arrives.
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            self.carried.fetch_add(count as u64, Ordering::Relaxed);
            let now = Instant::now();
            let mut leaves = own.reserve(now, count as u64, spec.connection_bytes_per_second);
            {
                let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
                leaves = leaves.max(total.reserve(now, count as u64, spec.total_bytes_per_second));
            }
            let arrives = leaves.max(self.opens) + spec.round_trip / 2;
            if count == 0 {
                let _ = pieces.send(Piece { bytes: Bytes::new(), arrives });
                return Ok(());
            }
            window.send(count, now);
            if pieces.send(Piece { bytes: buffer.split().freeze(), arrives }).is_err() {
                return Ok(());
            }
            if leaves > now {
                tokio::time::sleep_until(leaves.into()).await;
            }
        }
    }
}

async fn receive(
    mut pieces: mpsc::UnboundedReceiver<Piece>,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    arrived: mpsc::UnboundedSender<Arrival>,
) -> std::io::Result<()> {
    while let Some(piece) = pieces.recv().await {
        if piece.arrives > Instant::now() {
            tokio::time::sleep_until(piece.arrives.into()).await;
        }
        if state.wait_for(|state| !state.cut).await.is_err() {
            return Ok(());
        }
        if piece.bytes.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&piece.bytes).await?;
        // Fails if the sender has finished, which is fine.
        let _ = arrived.send(Arrival { bytes: piece.bytes.len(), at: Instant::now() });
    }
    Ok(())
}

fn piece_size(bytes_per_second: Option<u64>) -> usize {
    bytes_per_second.map_or(LARGEST_PIECE, |rate| {
        ((rate as f64 * PIECE_TIME.as_secs_f64()) as usize).clamp(SMALLEST_PIECE, LARGEST_PIECE)
    })
}
