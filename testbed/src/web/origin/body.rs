//! Response bodies: parts of files, read and counted in pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

const PIECE: u64 = 128 * 1024;
/// XORed with every byte of a corrupted body.
const CORRUPTION: u8 = 0xa5;

/// The sent part of a file, with faults.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) file: File,
    pub(super) first: u64,
    pub(super) length: u64,
    /// Fail after this many bytes.
    pub(super) break_after: Option<u64>,
    /// Change every byte.
    pub(super) corrupt: bool,
    /// Counts the bytes sent.
    pub(super) sent: Arc<AtomicU64>,
}

impl Content {
    pub(super) fn body(self) -> Body {
        let pieces = stream::unfold((self, 0), |(content, done)| async move {
            content.piece(done).map(|piece| {
                let length = piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
                content.sent.fetch_add(length, Ordering::Relaxed);
                (piece.map(Frame::data), (content, done + length))
            })
        });
        StreamBody::new(pieces).boxed_unsync()
    }

    /// The piece after `done` bytes; `None` at the end. Reads block, which is acceptable because files are in the page cache.
    fn piece(&self, done: u64) -> Option<io::Result<Bytes>> {
        let end = self.break_after.map_or(self.length, |limit| limit.min(self.length));
        let length = (end - done).min(PIECE);
        if length == 0 {
            let broken = self.break_after.is_some_and(|limit| limit < self.length);
            return broken.then(|| Err(io::Error::other("truncated by a fault")));
        }
        let mut piece = vec![0; length as usize];
        if let Err(error) = self.file.read_exact_at(&mut piece, self.first + done) {
            return Some(Err(error));
        }
        if self.corrupt {
            piece.iter_mut().for_each(|byte| *byte ^= CORRUPTION);
        }
        Some(Ok(piece.into()))
    }
}
