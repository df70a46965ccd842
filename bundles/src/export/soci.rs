//! SOCI: a JSON array of paths.
//!
//! Read by `soci create --prefetch-files-json` and `soci convert --prefetch-files-json`, which trim each path. Source:
//! `cmd/soci/commands/internal/prefetch.go` and `docs/prefetch.md` of awslabs/soci-snapshotter.

use serde_json::json;

use super::{Export, Files};

/// The files as a JSON array.
pub fn soci(files: &Files) -> Export {
    let (paths, inexpressible) = files.texts(|path| path.trim() == path);
    Export { content: format!("{:#}\n", json!(paths)).into_bytes(), inexpressible }
}
