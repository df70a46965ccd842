//! Traces of a CVMFS client: `CVMFS_TRACEFILE`.
//!
//! Four quoted fields a line: milliseconds since 1970 with three decimals, number of the event (1: open), path in the repository,
//! message. Source: `cvmfs/tracer.{h,cc}` and `StringifyTimeval` of cvmfs/cvmfs.
//!
//! The client sees a repository, not containers: paths below `/.layers/<2>/<digest>/layerfs` count as files of the image, other opens
//! are skipped. Its tracer waits rather than lose an event, so only what a killed client had not written is missing: a file is
//! complete if its last event is one of the tracer itself (a flush or the stop, which have negative numbers).

use super::csv::Rows;
use super::{FirstUses, ImportError, Imported, Source, used};
use crate::layout::path_in_image;
use crate::path::RootPath;
use crate::trace::{BlindSpots, LossCause, Use};

/// The event of an open (`Tracer::kEventOpen`).
const OPEN: &[u8] = b"1";

pub(super) fn parse(bytes: &[u8]) -> Result<Imported, ImportError> {
    let blind_spots = BlindSpots::CONTAINER.and(BlindSpots::SIZES).and(BlindSpots::HOW).and(BlindSpots::FLAGS);
    let mut imported = Imported::new(Source::Cvmfs, blind_spots);
    let mut opens = Vec::new();
    let mut complete = false;
    for (line, fields) in Rows::new(bytes) {
        let bad = |reason: String| ImportError::Line { line, source_name: Source::Cvmfs, reason };
        let fields = fields.map_err(|reason| bad(reason.into()))?;
        let [time, event, path, _message] = fields.as_slice() else {
            return Err(bad(format!("it has {} fields instead of 4: time, event, path, message", fields.len())));
        };
        let shown = || String::from_utf8_lossy(time).into_owned();
        let time_us = microseconds(time)
            .ok_or_else(|| bad(format!("its time {:?} is not of the form milliseconds.000", shown())))?;
        complete = event.starts_with(b"-");
        if event != OPEN {
            continue;
        }
        match RootPath::normalize(b"/", path) {
            Some(path) => opens.extend(path_in_image(&path).map(|path| (time_us, path))),
            None => imported.losses.add(LossCause::Unresolved, 1),
        }
        if opens.len() > 4 * super::MAX_FILES {
            return Err(ImportError::TooLarge { what: "opens", limit: 4 * super::MAX_FILES });
        }
    }
    if !complete {
        imported.blind_spots = imported.blind_spots.and(BlindSpots::LOSSES);
    }
    // Threads write one after the other, but took the time before.
    opens.sort_by_key(|(time_us, _)| *time_us);
    let first = opens.first().map_or(0, |open| open.0);
    let last = opens.last().map_or(0, |open| open.0);
    let mut uses = FirstUses::default();
    for (time_us, path) in opens {
        uses.add(used(path, time_us - first, 0, 0, Use::Open))?;
    }
    Ok(Imported { files: uses.files, duration_us: last - first, started: first / 1_000_000, ..imported })
}

/// `1234.567`, milliseconds, in microseconds.
fn microseconds(text: &[u8]) -> Option<u64> {
    let (whole, part) = std::str::from_utf8(text).ok()?.split_once('.')?;
    let part: u64 = if part.len() == 3 { part.parse().ok()? } else { return None };
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}
