//! What a node must know about a published layer before it can mount it.
//!
//! A layer deletes files of lower layers with whiteouts: files named `.wh.name` or `.wh..wh..opq` in any directory. A node without
//! this information must list all directories of the layer.

use std::collections::HashSet;

use serde::{Serialize, Serializer};

use crate::codec::{Decode, DecodeError, Decoder, Encode, FormatError, count, list};
use crate::image::Digest;
use crate::path::RootPath;

use super::{FORMAT, HEAP_ENTRY};

/// Most layers that a bundle may describe.
pub const MAX_LAYERS: usize = 4_096;

/// Most whiteouts that a bundle may name, over all layers.
pub const MAX_WHITEOUTS: usize = 200_000;

/// Prefix of the name of every whiteout. Source: OCI image specification, `layer.md`.
pub const WHITEOUT: &[u8] = b".wh.";

/// Name of the whiteout that makes a directory opaque: the directories of the lower layers do not show
/// through.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Marker with which `cvmfs_server` requests a nested catalog. It is not part of the image.
pub const CATALOG_MARKER: &[u8] = b".cvmfscatalog";

/// Longest file name in bytes: Linux's `NAME_MAX`.
const MAX_NAME: usize = 255;

/// A published layer of the image, with its whiteouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode)]
#[bincode(crate = "crate::codec")]
pub struct PublishedLayer {
    /// Digest of the layer's blob, which names the layer directory in the repository.
    pub digest: Digest,
    /// The layer's root, the directories with whiteouts and those on the way to them, sorted by path.
    pub directories: Vec<WhiteoutDirectory>,
}

/// A directory of a layer. A node recreates it in the companion directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode)]
#[bincode(crate = "crate::codec")]
pub struct WhiteoutDirectory {
    /// Path in the layer.
    pub path: RootPath,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Names of the whiteouts in the directory, sorted; in the layer's root also the catalog marker.
    #[serde(serialize_with = "as_text")]
    pub whiteouts: Vec<Vec<u8>>,
}

fn as_text<S: Serializer>(names: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| String::from_utf8_lossy(name)))
}

impl PublishedLayer {
    /// Checks what the format guarantees about a layer.
    fn check(&self) -> Result<(), LayerError> {
        let Some(root) = self.directories.first().filter(|root| root.path.as_bytes() == b"/") else {
            return Err(LayerError::NoRoot);
        };
        let mut before = root;
        for directory in &self.directories[1..] {
            // Sorted by path, a parent comes before its children, though not always directly before.
            let parent = directory.path.parent();
            let known = self.directories.binary_search_by(|other| Some(&other.path).cmp(&parent.as_ref()));
            if directory.path <= before.path || known.is_err() {
                return Err(LayerError::Order(directory.path.clone()));
            }
            before = directory;
        }
        for directory in &self.directories {
            if let Some(name) = directory.whiteouts.iter().find(|name| !directory.may_hold(name)) {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(LayerError::NoWhiteout { name, directory: directory.path.clone() });
            }
            let sorted = directory.whiteouts.is_sorted_by(|a, b| a < b);
            if !sorted || directory.mode > 0o7777 || directory.mtime.1 >= 1_000_000_000 {
                return Err(LayerError::Directory(directory.path.clone()));
            }
        }
        Ok(())
    }
}

/// A layer is described in a way that no layer can be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum LayerError {
    #[error("it does not begin with its root")]
    NoRoot,
    #[error("{0} does not follow its parent directory in sorted order")]
    Order(RootPath),
    #[error("{name:?} in {directory} is not the name of a whiteout")]
    NoWhiteout { name: String, directory: RootPath },
    #[error("{0} has unsorted whiteouts, or a mode or time that no directory can have")]
    Directory(RootPath),
}

/// Most directories that a bundle may describe, over all layers.
const MAX_DIRECTORIES: usize = 2 * MAX_WHITEOUTS;

/// The layers of a file. Their counts are checked before memory is taken for them.
#[derive(Debug, Default)]
pub(super) struct Layers(pub(super) Vec<PublishedLayer>);

impl<Context> Decode<Context> for Layers {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (mut layers_left, mut directories_left, mut whiteouts_left) = (MAX_LAYERS, MAX_DIRECTORIES, MAX_WHITEOUTS);
        let mut directory = |decoder: &mut D| {
            Ok(WhiteoutDirectory {
                path: Decode::decode(decoder)?,
                mode: Decode::decode(decoder)?,
                uid: Decode::decode(decoder)?,
                gid: Decode::decode(decoder)?,
                mtime: Decode::decode(decoder)?,
                whiteouts: list(decoder, &mut whiteouts_left)?,
            })
        };
        let mut layers = Vec::new();
        for _ in 0..count(decoder, &mut layers_left)? {
            let digest = Decode::decode(decoder)?;
            let directories = (0..count(decoder, &mut directories_left)?).map(|_| directory(decoder));
            layers.push(PublishedLayer { digest, directories: directories.collect::<Result<_, DecodeError>>()? });
        }
        Ok(Self(layers))
    }
}

impl WhiteoutDirectory {
    /// How many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        let names: usize = self.whiteouts.iter().map(|name| name.len() + HEAP_ENTRY).sum();
        size_of::<Self>() + self.path.as_bytes().len() + names
    }

    /// Whether `name` can be that of a whiteout in this directory.
    fn may_hold(&self, name: &[u8]) -> bool {
        let is_whiteout = name.starts_with(WHITEOUT) || (name == CATALOG_MARKER && self.path.as_bytes() == b"/");
        is_whiteout && name.len() <= MAX_NAME && !name.contains(&b'/') && !name.contains(&0)
    }
}

/// Checks what the format guarantees about the layers.
pub(super) fn check(layers: &[PublishedLayer]) -> Result<(), FormatError> {
    let whiteouts = layers.iter().flat_map(|layer| &layer.directories).map(|directory| directory.whiteouts.len());
    for (count, max, what) in
        [(layers.len(), MAX_LAYERS, "layers"), (whiteouts.sum(), MAX_WHITEOUTS, "whiteouts in layers")]
    {
        if count > max {
            return Err(FORMAT.content(format!("{count} {what}, at most {max} are allowed")));
        }
    }
    let mut known = HashSet::new();
    for layer in layers {
        if !known.insert(layer.digest) {
            return Err(FORMAT.content(format!("layer {} is listed twice", layer.digest)));
        }
        layer.check().map_err(|reason| FORMAT.content(format!("layer {}: {reason}", layer.digest)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str, whiteouts: &[&str]) -> WhiteoutDirectory {
        let whiteouts = whiteouts.iter().map(|name| name.as_bytes().to_vec()).collect();
        WhiteoutDirectory { path: RootPath::new(path).unwrap(), mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), whiteouts }
    }

    fn checked(directories: &[WhiteoutDirectory]) -> Result<(), String> {
        let layer = PublishedLayer { digest: Digest::sha256(b"layer"), directories: directories.to_vec() };
        check(&[layer]).map_err(|e| e.to_string())
    }

    #[test]
    fn directories_are_sorted_and_have_their_parents() {
        let check_paths = |paths: &[&str]| checked(&paths.iter().map(|path| directory(path, &[])).collect::<Vec<_>>());
        // A name may contain characters that sort before the slash.
        assert_eq!(check_paths(&["/", "/a", "/a-b", "/a/b", "/a/b/c"]), Ok(()));
        for (bad, expected) in [
            (&[][..], "root"),
            (&["/a"], "root"),
            (&["/", "/a/b"], "/a/b"),
            (&["/", "/b", "/a"], "/a"),
            (&["/", "/a", "/a"], "/a"),
            (&["/", "/"], "does not follow"),
        ] {
            let message = check_paths(bad).unwrap_err();
            assert!(message.contains(expected), "{bad:?}: {message}");
        }
    }

    #[test]
    fn a_layer_is_listed_once() {
        let layer = PublishedLayer { digest: Digest::sha256(b"layer"), directories: vec![directory("/", &[])] };
        let other = PublishedLayer { digest: Digest::sha256(b"other"), ..layer.clone() };
        assert!(check(&[layer.clone(), other.clone()]).is_ok());
        assert!(check(&[layer.clone(), other, layer]).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn only_whiteout_names_are_accepted() {
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
        for (path, whiteouts, valid) in cases {
            let mut directories = vec![directory(path, whiteouts)];
            if path != "/" {
                directories.insert(0, directory("/", &[]));
            }
            assert_eq!(checked(&directories).is_ok(), valid, "{path} {whiteouts:?}");
        }
        let strange = [
            WhiteoutDirectory { mode: 0o40755, ..directory("/", &[]) },
            WhiteoutDirectory { mtime: (0, 1_000_000_000), ..directory("/", &[]) },
        ];
        for root in strange {
            assert!(checked(std::slice::from_ref(&root)).is_err(), "{root:?}");
        }
        let many: Vec<String> = (0..=MAX_WHITEOUTS).map(|n| format!(".wh.{n:06}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(checked(&[directory("/", &many)]).unwrap_err().contains("200001 whiteouts"));
        assert_eq!(checked(&[directory("/", &many[1..])]), Ok(()));
    }
}
