//! The optimizer of nydus-snapshotter: `<persist file>.csv`.
//!
//! A heading `path,size,elapsed`, then one line per file, each once: path from the container's root, size in bytes, microseconds since
//! its first event. Source: `pkg/fanotify/fanotify.go` and `tools/optimizer-server/src/main.rs` of containerd/nydus-snapshotter. With
//! `readable = true`, sizes and times are rounded texts, which are refused.

use super::csv::Rows;
use super::{FirstUses, ImportError, Imported, Source, used};
use crate::path::RootPath;
use crate::trace::{BlindSpots, LossCause, Use};

const TITLE: [&[u8]; 3] = [b"path", b"size", b"elapsed"];

pub(super) fn parse(bytes: &[u8]) -> Result<Imported, ImportError> {
    // It uses fanotify, attached when the container already runs.
    let blind_spots =
        BlindSpots::START.and(BlindSpots::SET_UP).and(BlindSpots::LOSSES).and(BlindSpots::HOW).and(BlindSpots::FLAGS);
    let mut imported = Imported::new(Source::Nydus, blind_spots);
    let mut uses = FirstUses::default();
    for (line, fields) in Rows::new(bytes) {
        let bad = |reason: String| ImportError::Line { line, source_name: Source::Nydus, reason };
        let fields = fields.map_err(|reason| bad(reason.into()))?;
        let [path, size, elapsed] = fields.as_slice() else {
            return Err(bad(format!("it has {} fields instead of 3: path,size,elapsed", fields.len())));
        };
        if line == 1 && fields == TITLE {
            continue;
        }
        let number = |what: &str, text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.parse::<u64>().map_err(|_| {
                bad(format!("its {what} {text:?} is not a number (run the optimizer with readable = false)"))
            })
        };
        let (size, at_us) = (number("size", size)?, number("time", elapsed)?);
        imported.duration_us = imported.duration_us.max(at_us);
        match RootPath::normalize(b"/", path).filter(|_| path.starts_with(b"/")) {
            Some(path) => uses.add(used(path, at_us, size, 0, Use::Open))?,
            None => imported.losses.add(LossCause::Unresolved, 1),
        }
    }
    uses.files.sort_by_key(|file| file.at_us);
    Ok(Imported { files: uses.files, ..imported })
}
