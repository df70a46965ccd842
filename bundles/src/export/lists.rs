//! Exports that are plain lists of the image's files.

use serde_json::json;

use super::{Export, Files};

/// eStargz: the record file of `ctr-remote image optimize --record-out`.
///
/// `ctr-remote image convert --estargz-record-in`, `nerdctl image convert --estargz-record-in` and
/// `--zstdchunked-record-in` read it: one JSON object a line, in order of priority, each path once and relative to the root.
/// Our own [`crate::trace::import`] reads it, too. Source: `recorder.Entry` and `readPathsFromRecordFile` of
/// containerd/stargz-snapshotter and containerd/nerdctl. (The option `--prefetch-list` proposed for `ctr-remote`, pull
/// request 2113, takes plain paths: [`nydus`].)
pub fn stargz(files: &Files) -> Export {
    let (paths, inexpressible) = files.texts(|_| true);
    let line = |path: &&str| {
        let mut entry = json!({ "path": path.trim_start_matches('/') });
        if let Some(manifest) = files.manifest {
            entry["manifestDigest"] = json!(manifest);
        }
        format!("{entry}\n")
    };
    Export { content: paths.iter().map(line).collect::<String>().into_bytes(), inexpressible }
}

/// nydus: a list of paths, one a line.
///
/// `nydusify convert --prefetch-patterns` and `nydus-image create --prefetch-policy fs` read it from standard input; a
/// directory in it would stand for everything below. Lines must be absolute paths and are trimmed, and one line that is not
/// UTF-8 makes the whole list unreadable, so such names are skipped. Source: `getPrefetchPatterns` of `nydusify`, and
/// `builder/src/core/prefetch.rs` and `docs/prefetch.md` of dragonflyoss/nydus.
pub fn nydus(files: &Files) -> Export {
    let (paths, inexpressible) = files.texts(|path| path.trim() == path && !path.contains(['\n', '\r']));
    let content = paths.iter().flat_map(|path| [path.as_bytes(), b"\n"]).collect::<Vec<_>>().concat();
    Export { content, inexpressible }
}

/// SOCI: a JSON array of paths.
///
/// `soci create --prefetch-files-json` and `soci convert --prefetch-files-json` read it and trim each path. Source:
/// `cmd/soci/commands/internal/prefetch.go` and `docs/prefetch.md` of awslabs/soci-snapshotter.
pub fn soci(files: &Files) -> Export {
    let (paths, inexpressible) = files.texts(|path| path.trim() == path);
    Export { content: format!("{:#}\n", json!(paths)).into_bytes(), inexpressible }
}
