//! Bodies of answers: parts of files, read and counted piece by piece.

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
/// What every byte is combined with to spoil it.
const SPOILER: u8 = 0xa5;

/// What of a file is sent, and how.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) file: File,
    pub(super) first: u64,
    pub(super) length: u64,
    /// Fail after this many bytes.
    pub(super) break_after: Option<u64>,
    /// Change every byte.
    pub(super) spoil: bool,
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

    /// The piece after `done` bytes; none at the end. Files come from the page cache, so reading them may block.
    fn piece(&self, done: u64) -> Option<io::Result<Bytes>> {
        let end = self.break_after.map_or(self.length, |limit| limit.min(self.length));
        let length = (end - done).min(PIECE);
        if length == 0 {
            let broken = self.break_after.is_some_and(|limit| limit < self.length);
            return broken.then(|| Err(io::Error::other("truncated as asked")));
        }
        let mut piece = vec![0; length as usize];
        if let Err(error) = self.file.read_exact_at(&mut piece, self.first + done) {
            return Some(Err(error));
        }
        if self.spoil {
            piece.iter_mut().for_each(|byte| *byte ^= SPOILER);
        }
        Some(Ok(piece.into()))
    }
}
