//! eStargz: the record file of `ctr-remote image optimize --record-out`.
//!
//! Read by `ctr-remote image convert --estargz-record-in`, `nerdctl image convert --estargz-record-in` and
//! `--zstdchunked-record-in`: one JSON object a line, in order of priority, each path once, relative to the root. Source:
//! `recorder.Entry` and `readPathsFromRecordFile` of containerd/stargz-snapshotter and containerd/nerdctl. (The option
//! `--prefetch-list` that is proposed for `ctr-remote`, pull request 2113, takes plain paths: [`super::nydus()`].)
//! Our own `trace::import` reads it, too.

use serde_json::json;

use super::{Export, Files};

/// The files as a record file.
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
