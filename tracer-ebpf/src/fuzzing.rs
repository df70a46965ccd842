//! Entry points of the fuzz targets in `fuzz/`: each parses bytes from outside, without I/O, and checks what must always hold.

use crate::cri::log::{self, Lines};
use crate::event::{self, EventKind};
use crate::mounts;

/// Parses a mountinfo file and the overlay options in it.
pub fn mountinfo(bytes: &[u8]) {
    let mounts = mounts::parse(bytes);
    assert!(mounts.len() <= bytes.split(|byte| *byte == b'\n').count());
    for mount in &mounts {
        let directories = mount.overlay_directories();
        assert!(directories.lower.iter().chain(&directories.upper).all(|path| !path.as_os_str().is_empty()));
        assert!(!mount.has_option("a,b"), "an option cannot contain a comma");
        // A path below the mounted directory keeps its place when it is converted there and back.
        if let Some(inner) = mount.to_file_system(&mount.point.join("a/b")) {
            assert_eq!(mount.to_mounted(&inner).as_deref(), Some(mount.point.join("a/b").as_path()));
        }
        mounts::covering(&mounts, &mount.point).expect("a mount covers its own mount point");
    }
}

/// Parses a record of the ring buffer.
pub fn event(bytes: &[u8]) {
    let Some(event) = event::parse(bytes) else { return };
    match event.kind {
        EventKind::Use { path, .. } | EventKind::Content { path, .. } | EventKind::Listed { path, .. } => {
            assert!(path.as_bytes().len() <= bytes.len());
        }
        EventKind::Script { name } => assert!(!name.contains(&b'/')),
        EventKind::Span { .. } | EventKind::FirstExec { .. } | EventKind::Absent { .. } | EventKind::Cgroup { .. } => {}
    }
}

/// Parses a container's log, complete and in pieces, whose lengths the first byte determines.
pub fn cri_log(bytes: &[u8]) {
    let Some((length, text)) = bytes.split_first() else { return };
    let mut lines = Lines::default();
    let mut in_pieces = Vec::new();
    for piece in text.chunks(usize::from(*length).max(1)) {
        in_pieces.extend(lines.push(piece));
    }
    assert_eq!(in_pieces, Lines::default().push(text), "the lines depend on the pieces");
    let output = log::parse(&String::from_utf8_lossy(text));
    // Nothing is added but line ends, one for each entry at most.
    assert!(output.stdout.len() + output.stderr.len() <= 3 * text.len() + 1);
}
