//! Reading a trace file, complete or as a prefix.

use super::block::{self, Chain, Next};
use super::join::Parts;
use super::phases::Marks;
use super::records::{self, Head, Tail};
use super::{
    BlindSpots, Cut, End, Excluded, FORMAT, FileUse, Lookup, Losses, MountedRepository, PathNumber, Paths, Trace,
};
use super::{join, repository};
use crate::codec::{FormatError, MAX_PAYLOAD, Minor, START};
use crate::path::PathBytes;

/// A trace without its files, and the files.
type Numbered = (Trace, Vec<FileUse<PathNumber>>);

/// Decodes a trace file, or a prefix of one. Its paths are added to `paths`; each file has the number of its
/// path.
pub(crate) fn read(bytes: &[u8], paths: &mut Paths) -> Result<Numbered, FormatError> {
    let minor = FORMAT.minor_of(bytes)?;
    let (start, blocks) = bytes.split_first_chunk::<START>().ok_or_else(|| truncated(bytes))?;
    let reader = Reader { chain: Chain::new(*start), minor, records: 0, raw: 0, found: Found::new(paths) };
    reader.blocks(bytes, blocks)
}

struct Reader<'a> {
    chain: Chain,
    minor: Minor,
    records: usize,
    raw: usize,
    found: Found<'a>,
}

/// What the records of a file say.
struct Found<'a> {
    paths: &'a mut Paths,
    marks: Marks,
    repositories: Vec<MountedRepository>,
    parts: Parts,
    absent: Vec<Lookup>,
    directories: Vec<Lookup>,
}

impl Reader<'_> {
    fn blocks(mut self, file: &[u8], mut rest: &[u8]) -> Result<Numbered, FormatError> {
        let Next::Block { kind: block::HEAD, raw, rest: behind } = block::open(&mut self.chain, rest)? else {
            return Err(truncated(file));
        };
        let head: Head = records::body(&raw, self.minor)?;
        rest = behind;
        loop {
            match block::open(&mut self.chain, rest)? {
                Next::Block { kind: block::RECORDS, raw, rest: behind } => {
                    self.take(&raw)?;
                    rest = behind;
                }
                Next::Block { kind: block::END, raw, rest: [] } => {
                    let tail = records::body(&raw, self.minor)?;
                    return self.found.trace(head, tail);
                }
                Next::Block { kind: block::END, .. } => return Err(FORMAT.content("bytes follow its end block")),
                Next::Block { kind: block::HEAD, .. } => return Err(FORMAT.content("it has two head blocks")),
                Next::Block { rest: behind, .. } => rest = behind,
                Next::Nothing => return self.found.prefix(head, Cut::BetweenBlocks),
                Next::Torn => return self.found.prefix(head, Cut::InBlock),
            }
        }
    }

    fn take(&mut self, mut block: &[u8]) -> Result<(), FormatError> {
        self.raw += block.len();
        if self.raw > MAX_PAYLOAD {
            return Err(FormatError::TooLarge { kind: FORMAT.name, size: self.raw as u64 });
        }
        while !block.is_empty() {
            let (kind, body, rest) = records::split(block)?;
            self.records += 1;
            if self.records > records::MAX {
                return Err(records::too_many(records::MAX, "records"));
            }
            self.found.record(kind, body, self.minor)?;
            block = rest;
        }
        Ok(())
    }
}

impl<'a> Found<'a> {
    fn new(paths: &'a mut Paths) -> Self {
        Self {
            paths,
            marks: Marks::default(),
            repositories: Vec::new(),
            parts: Parts::default(),
            absent: Vec::new(),
            directories: Vec::new(),
        }
    }

    fn record(&mut self, kind: u32, body: &[u8], minor: Minor) -> Result<(), FormatError> {
        match kind {
            records::FILE => {
                let file: FileUse<PathBytes<'_>> = records::borrowed(body, minor)?;
                let path = self.paths.number(file.path)?;
                self.parts.file(file.with_path(path));
            }
            records::CONTENT => {
                let (id, path) = records::borrowed(body, minor)?;
                self.parts.content(id, self.paths.number(path)?);
            }
            records::RANGES => {
                let (id, ranges) = records::body(body, minor)?;
                self.parts.ranges(id, ranges)?;
            }
            records::REPOSITORY if self.repositories.len() == repository::MAX => {
                return Err(records::too_many(repository::MAX, "repositories"));
            }
            records::REPOSITORY => self.repositories.push(records::body(body, minor)?),
            records::ABSENT => self.absent.push(records::body(body, minor)?),
            records::DIRECTORY => self.directories.push(records::body(body, minor)?),
            records::PHASE => {
                let (code, at_us) = records::body(body, minor)?;
                self.marks.add(code, at_us);
            }
            // Other kinds are for newer readers.
            _ => {}
        }
        Ok(())
    }

    /// The beginning of a trace whose recorder did not write its end.
    fn prefix(self, head: Head, cut: Cut) -> Result<Numbered, FormatError> {
        let tail = Tail {
            end: End::Unfinished(cut),
            duration_us: 0,
            losses: Losses::default(),
            excluded: Excluded::default(),
        };
        let (trace, files) = self.trace(head, tail)?;
        Ok((Trace { duration_us: files.last().map_or(0, |file| file.at_us), ..trace }, files))
    }

    fn trace(self, head: Head, tail: Tail) -> Result<Numbered, FormatError> {
        let files = match tail.end {
            End::Unfinished(_) => self.parts.join_prefix(self.paths)?,
            _ => self.parts.join(self.paths, !head.blind_spots.has(BlindSpots::RANGES))?,
        };
        let trace = Trace {
            clock: head.clock,
            duration_us: tail.duration_us,
            end: tail.end,
            recorder: head.recorder,
            blind_spots: head.blind_spots,
            losses: tail.losses,
            command: head.command,
            profile: head.profile,
            phases: self.marks.phases(),
            excluded: tail.excluded,
            repositories: self.repositories,
            absent: join::first_lookups(self.absent),
            directories: join::first_lookups(self.directories),
            ..Trace::new(head.image)
        };
        Ok((trace, files))
    }
}

fn truncated(file: &[u8]) -> FormatError {
    FormatError::Truncated { kind: FORMAT.name, have: file.len() as u64, want: file.len() as u64 + 1 }
}
