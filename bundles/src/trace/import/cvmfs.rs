//! A CVMFS client's own trace: `CVMFS_TRACEFILE`.
//!
//! Four quoted fields a line: milliseconds since 1970 with three decimals, number of the event (1: open), path in the
//! repository, message. Source: `cvmfs/tracer.{h,cc}` and `StringifyTimeval` of cvmfs/cvmfs.
//!
//! The client sees a repository, not containers: what is below `/.layers/<2>/<digest>/layerfs` is taken as a file of
//! the image, opens elsewhere in the repository are left out. Its tracer waits rather than lose an event, so only what
//! a killed client had not written is missing: a record is whole if its last event is one of the tracer itself (a
//! flush or the stop, which have negative numbers).

use super::csv::Records;
use super::{BadRecord, FirstUses, Imported, Source, used};
use crate::path::RootPath;
use crate::trace::{Cause, Unseen, Use};

/// The event of an open (`Tracer::kEventOpen`).
const OPEN: &[u8] = b"1";

pub(super) fn parse(bytes: &[u8]) -> Result<Imported, BadRecord> {
    let unseen = Unseen::CONTAINER.and(Unseen::SIZES).and(Unseen::HOW).and(Unseen::FLAGS);
    let mut imported = Imported::new(Source::Cvmfs, unseen);
    let (mut opens, mut whole) = (Vec::new(), false);
    for (line, fields) in Records::new(bytes) {
        let bad = |why: String| BadRecord::Line { line, source_name: Source::Cvmfs, why };
        let fields = fields.map_err(|why| bad(why.into()))?;
        let [time, event, path, _message] = fields.as_slice() else {
            return Err(bad(format!("it has {} fields instead of 4: time, event, path, message", fields.len())));
        };
        let shown = || String::from_utf8_lossy(time).into_owned();
        let time_us =
            microseconds(time).ok_or_else(|| bad(format!("its time {:?} is no milliseconds.000", shown())))?;
        whole = event.starts_with(b"-");
        if event != OPEN {
            continue;
        }
        match RootPath::normal(b"/", path) {
            Some(path) => opens.extend(path.in_layer().map(|path| (time_us, path))),
            None => imported.lost.add(Cause::Unresolved, 1),
        }
        if opens.len() > 4 * super::MAX_FILES {
            return Err(BadRecord::TooLarge { what: "opens", limit: 4 * super::MAX_FILES });
        }
    }
    if !whole {
        imported.unseen = imported.unseen.and(Unseen::LOSSES);
    }
    // Threads write one after the other, but took the time before.
    opens.sort_by_key(|(time_us, _)| *time_us);
    let (first, last) = (opens.first().map_or(0, |o| o.0), opens.last().map_or(0, |o| o.0));
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
