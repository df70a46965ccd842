//! Reading a trace file, whole or as a prefix.

use std::collections::HashSet;

use super::block::{self, Chain, Next};
use super::records::{self, Head, Tail};
use super::{Cut, End, FORMAT, FileUse, Losses, Trace};
use crate::codec::{BadFile, MAX_PAYLOAD, START};

/// Reads a trace file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Trace, BadFile> {
    let newer = FORMAT.minor_of(bytes)? > FORMAT.minor;
    let (start, blocks) = bytes.split_first_chunk::<START>().ok_or_else(|| truncated(bytes))?;
    let reader = Reader { chain: Chain::new(*start), newer, records: 0, raw: 0, files: Vec::new() };
    reader.blocks(bytes, blocks)
}

struct Reader {
    chain: Chain,
    newer: bool,
    records: usize,
    raw: usize,
    files: Vec<FileUse>,
}

impl Reader {
    fn blocks(mut self, file: &[u8], mut rest: &[u8]) -> Result<Trace, BadFile> {
        let Next::Block { kind: block::HEAD, raw, rest: behind } = block::open(&mut self.chain, rest)? else {
            return Err(truncated(file));
        };
        let head: Head = records::body(&raw, self.newer)?;
        rest = behind;
        loop {
            match block::open(&mut self.chain, rest)? {
                Next::Block { kind: block::RECORDS, raw, rest: behind } => {
                    self.take(&raw)?;
                    rest = behind;
                }
                Next::Block { kind: block::END, raw, rest: [] } => {
                    let tail = records::body(&raw, self.newer)?;
                    return Ok(self.trace(head, tail));
                }
                Next::Block { kind: block::END, .. } => return Err(FORMAT.content("there are bytes behind its end")),
                Next::Block { kind: block::HEAD, .. } => return Err(FORMAT.content("it has two heads")),
                Next::Block { rest: behind, .. } => rest = behind,
                Next::Nothing => return Ok(self.prefix(head, Cut::BetweenBlocks)),
                Next::Torn => return Ok(self.prefix(head, Cut::InBlock)),
            }
        }
    }

    fn take(&mut self, mut block: &[u8]) -> Result<(), BadFile> {
        self.raw += block.len();
        if self.raw > MAX_PAYLOAD {
            return Err(BadFile::TooLarge { kind: FORMAT.name, size: self.raw as u64 });
        }
        while !block.is_empty() {
            let (kind, body, rest) = records::take(block)?;
            self.records += 1;
            if self.records > records::MAX {
                return Err(records::too_many());
            }
            // Other kinds are for newer readers.
            if kind == records::FILE {
                self.files.push(records::body(body, self.newer)?);
            }
            block = rest;
        }
        Ok(())
    }

    /// What there is of a trace whose recorder did not come to its end.
    fn prefix(self, head: Head, cut: Cut) -> Trace {
        let tail = Tail { end: End::Unfinished(cut), duration_us: 0, lost: Losses::default() };
        let trace = self.trace(head, tail);
        Trace { duration_us: trace.files.last().map_or(0, |file| file.at_us), ..trace }
    }

    fn trace(self, head: Head, tail: Tail) -> Trace {
        Trace {
            image: head.image,
            started: head.started,
            duration_us: tail.duration_us,
            end: tail.end,
            recorder: head.recorder,
            unseen: head.unseen,
            lost: tail.lost,
            files: first_uses(self.files),
        }
    }
}

/// Each file once, in order of time. Records come as they were written, which is not quite that order.
fn first_uses(mut files: Vec<FileUse>) -> Vec<FileUse> {
    files.sort_by_key(|file| file.at_us);
    let mut seen = HashSet::with_capacity(files.len());
    let first: Vec<bool> = files.iter().map(|file| seen.insert(&file.path)).collect();
    let mut first = first.into_iter();
    files.retain(|_| first.next().unwrap_or(false));
    files
}

fn truncated(file: &[u8]) -> BadFile {
    BadFile::Truncated { kind: FORMAT.name, have: file.len() as u64, want: file.len() as u64 + 1 }
}
