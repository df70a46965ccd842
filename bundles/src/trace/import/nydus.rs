//! nydus-snapshotter's optimizer: `<persist file>.csv`.
//!
//! A line `path,size,elapsed`, then one line a file, each once: path from the container's root, size in bytes,
//! microseconds from its first event. Source: `pkg/fanotify/fanotify.go` and `tools/optimizer-server/src/main.rs` of
//! containerd/nydus-snapshotter. With `readable = true` sizes and times are rounded texts, which are refused.

use super::csv::Records;
use super::{BadRecord, FirstUses, Imported, Source, used};
use crate::path::RootPath;
use crate::trace::{Cause, Unseen, Use};

const TITLE: [&[u8]; 3] = [b"path", b"size", b"elapsed"];

pub(super) fn parse(bytes: &[u8]) -> Result<Imported, BadRecord> {
    // fanotify, attached when the container already runs.
    let unseen = Unseen::START.and(Unseen::SET_UP).and(Unseen::LOSSES).and(Unseen::HOW).and(Unseen::FLAGS);
    let mut imported = Imported::new(Source::Nydus, unseen);
    let mut uses = FirstUses::default();
    for (line, fields) in Records::new(bytes) {
        let bad = |why: String| BadRecord::Line { line, source_name: Source::Nydus, why };
        let fields = fields.map_err(|why| bad(why.into()))?;
        let [path, size, elapsed] = fields.as_slice() else {
            return Err(bad(format!("it has {} fields instead of 3: path,size,elapsed", fields.len())));
        };
        if line == 1 && fields == TITLE {
            continue;
        }
        let number = |what: &str, text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.parse::<u64>().map_err(|_| {
                bad(format!("its {what} {text:?} is no number (the optimizer must run with readable = false)"))
            })
        };
        let (size, at_us) = (number("size", size)?, number("time", elapsed)?);
        imported.duration_us = imported.duration_us.max(at_us);
        match RootPath::normal(b"/", path).filter(|_| path.starts_with(b"/")) {
            Some(path) => uses.add(used(path, at_us, size, 0, Use::Open))?,
            None => imported.lost.add(Cause::Unresolved, 1),
        }
    }
    uses.files.sort_by_key(|file| file.at_us);
    Ok(Imported { files: uses.files, ..imported })
}
