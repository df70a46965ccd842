//! stargz-snapshotter: `ctr-remote image optimize --record-out`.
//!
//! One JSON object a line, in order of first use, each file once: `path` (relative to the root), `manifestDigest`, `layerIndex`. Source:
//! `analyzer/recorder/recorder.go` of containerd/stargz-snapshotter. Other members are ignored.

use serde::Deserialize;

use super::{FirstUses, ImportError, Imported, Source, used};
use crate::image::Digest;
use crate::path::RootPath;
use crate::trace::{BlindSpots, LossCause, Use};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    path: String,
    manifest_digest: Option<String>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Imported, ImportError> {
    // It uses fanotify, does not count losses, and records neither times nor kinds of use.
    let not_recorded = BlindSpots::TIMES.and(BlindSpots::SIZES).and(BlindSpots::HOW).and(BlindSpots::FLAGS);
    let mut imported = Imported::new(Source::Stargz, not_recorded.and(BlindSpots::LOSSES).and(BlindSpots::SET_UP));
    let mut uses = FirstUses::default();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let bad = |reason: String| ImportError::Line { line: index + 1, source_name: Source::Stargz, reason };
        let entry: Entry = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
        if let Some(text) = entry.manifest_digest.filter(|text| !text.is_empty()) {
            let digest: Digest = text.parse().map_err(|e: crate::image::ParseDigestError| bad(e.to_string()))?;
            if imported.manifest.is_some_and(|known| known != digest) {
                return Err(bad(format!("it names another manifest ({digest}) than the lines before")));
            }
            imported.manifest = Some(digest);
        }
        match RootPath::normalize(b"/", entry.path.as_bytes()).filter(|path| !path.name().is_empty()) {
            // Order is kept by counting microseconds.
            Some(path) => {
                let at_us = uses.files.len() as u64;
                uses.add(used(path, at_us, 0, 0, Use::Open))?;
            }
            None => imported.losses.add(LossCause::Unresolved, 1),
        }
    }
    Ok(Imported { files: uses.files, ..imported })
}
