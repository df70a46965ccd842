//! What a node must know of a published layer before it can mount it.
//!
//! The deletions of a layer are files in it (`.wh.name`, `.wh..wh..opq`), anywhere. A node that is not told where would have to
//! list all directories of the layer.

use std::collections::HashSet;

use serde::{Serialize, Serializer};

use crate::codec::BadFile;
use crate::image::Digest;
use crate::path::RootPath;

use super::FORMAT;

/// The most layers that a bundle may tell of.
pub const MAX_LAYERS: usize = 4_096;

/// The most marks that a bundle may name, over all layers.
pub const MAX_MARKS: usize = 200_000;

/// Begins the name of every mark of a deletion. Source: OCI image specification, `layer.md`.
pub const WHITEOUT: &[u8] = b".wh.";

/// Marks a directory of which nothing shows through from the layers below.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// The publisher's mark of a nested catalog, which is not of the image. Source: `cvmfs_server`.
pub const CATALOG: &[u8] = b".cvmfscatalog";

/// The most bytes of a name. Source: Linux's `NAME_MAX`.
const MAX_NAME: usize = 255;

/// A published layer of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct PublishedLayer {
    /// The digest of its blob, by which it is published.
    pub digest: Digest,
    /// Its root, and the directories that hold marks or lead there, in order of their paths.
    pub directories: Vec<MarkedDirectory>,
}

/// A directory of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct MarkedDirectory {
    /// Where it is in the layer.
    pub path: RootPath,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// The names of the marks in it, in order: those of deletions, and in the layer's root that of its catalog.
    #[serde(serialize_with = "as_text")]
    pub marks: Vec<Vec<u8>>,
}

fn as_text<S: Serializer>(names: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| String::from_utf8_lossy(name)))
}

impl PublishedLayer {
    /// Refuses what no layer can have.
    fn check(&self) -> Result<(), String> {
        let Some(root) = self.directories.first().filter(|root| root.path.as_bytes() == b"/") else {
            return Err("it does not begin with its root".to_owned());
        };
        let mut before = root;
        for directory in &self.directories[1..] {
            // Sorted, what a directory is in stands before it, though not always just before it.
            let parent = directory.path.parent();
            let known = self.directories.binary_search_by(|other| Some(&other.path).cmp(&parent.as_ref()));
            if directory.path <= before.path || known.is_err() {
                return Err(format!("{} is not behind the directory that it is in", directory.path));
            }
            before = directory;
        }
        for directory in &self.directories {
            if let Some(name) = directory.marks.iter().find(|name| !directory.may_hold(name)) {
                return Err(format!("{:?} in {} is no mark", String::from_utf8_lossy(name), directory.path));
            }
            if !directory.marks.is_sorted_by(|a, b| a < b)
                || directory.mode > 0o7777
                || directory.mtime.1 >= 1_000_000_000
            {
                return Err(format!("{} has marks out of order, or mode or time of no directory", directory.path));
            }
        }
        Ok(())
    }
}

impl MarkedDirectory {
    /// Whether a name can be that of a mark here.
    fn may_hold(&self, name: &[u8]) -> bool {
        let is_mark = name.starts_with(WHITEOUT) || (name == CATALOG && self.path.as_bytes() == b"/");
        is_mark && name.len() <= MAX_NAME && !name.contains(&b'/') && !name.contains(&0)
    }
}

/// Refuses layers that no image can have.
pub(super) fn check(layers: &[PublishedLayer]) -> Result<(), BadFile> {
    let marks = layers.iter().flat_map(|layer| &layer.directories).map(|directory| directory.marks.len());
    for (count, max, what) in [(layers.len(), MAX_LAYERS, "layers"), (marks.sum(), MAX_MARKS, "marks in layers")] {
        if count > max {
            return Err(FORMAT.content(format!("{count} {what}, at most {max} are allowed")));
        }
    }
    let mut known = HashSet::new();
    for layer in layers {
        if !known.insert(layer.digest) {
            return Err(FORMAT.content(format!("layer {} is told of twice", layer.digest)));
        }
        layer.check().map_err(|why| FORMAT.content(format!("layer {}: {why}", layer.digest)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str, marks: &[&str]) -> MarkedDirectory {
        let marks = marks.iter().map(|name| name.as_bytes().to_vec()).collect();
        MarkedDirectory { path: RootPath::new(path).unwrap(), mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), marks }
    }

    fn checked(directories: &[MarkedDirectory]) -> Result<(), String> {
        let layer = PublishedLayer { digest: Digest::of(b"layer"), directories: directories.to_vec() };
        check(&[layer]).map_err(|e| e.to_string())
    }

    #[test]
    fn directories_are_in_order_and_below_one_another() {
        let of = |paths: &[&str]| checked(&paths.iter().map(|path| directory(path, &[])).collect::<Vec<_>>());
        // A name may continue with what sorts before the slash.
        assert_eq!(of(&["/", "/a", "/a-b", "/a/b", "/a/b/c"]), Ok(()));
        for (bad, expected) in [
            (&[][..], "root"),
            (&["/a"], "root"),
            (&["/", "/a/b"], "/a/b"),
            (&["/", "/b", "/a"], "/a"),
            (&["/", "/a", "/a"], "/a"),
            (&["/", "/"], "behind"),
        ] {
            let said = of(bad).unwrap_err();
            assert!(said.contains(expected), "{bad:?}: {said}");
        }
    }

    #[test]
    fn a_layer_is_told_of_once() {
        let layer = PublishedLayer { digest: Digest::of(b"layer"), directories: vec![directory("/", &[])] };
        let other = PublishedLayer { digest: Digest::of(b"other"), ..layer.clone() };
        assert!(check(&[layer.clone(), other.clone()]).is_ok());
        assert!(check(&[layer.clone(), other, layer]).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn only_marks_are_marks() {
        let long = format!(".wh.{}", "x".repeat(252));
        let cases: [(&str, &[&str], bool); 10] = [
            ("/", &[".cvmfscatalog", ".wh..wh..opq", ".wh.x"], true),
            ("/a", &[".wh.", ".wh..wh.aufs", &long[..255]], true),
            ("/a", &[".cvmfscatalog"], false),
            ("/a", &["x"], false),
            ("/a", &[".wh.x/../../y"], false),
            ("/a", &[".wh.\0"], false),
            ("/a", &["..", "."], false),
            ("/a", &[&long], false),
            ("/a", &[".wh.b", ".wh.a"], false),
            ("/a", &[".wh.a", ".wh.a"], false),
        ];
        for (path, marks, fine) in cases {
            let mut directories = vec![directory(path, marks)];
            if path != "/" {
                directories.insert(0, directory("/", &[]));
            }
            assert_eq!(checked(&directories).is_ok(), fine, "{path} {marks:?}");
        }
        let strange = [
            MarkedDirectory { mode: 0o40755, ..directory("/", &[]) },
            MarkedDirectory { mtime: (0, 1_000_000_000), ..directory("/", &[]) },
        ];
        for root in strange {
            assert!(checked(std::slice::from_ref(&root)).is_err(), "{root:?}");
        }
        let many: Vec<String> = (0..=MAX_MARKS).map(|n| format!(".wh.{n:06}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(checked(&[directory("/", &many)]).unwrap_err().contains("200001 marks"));
        assert_eq!(checked(&[directory("/", &many[1..])]), Ok(()));
    }
}
