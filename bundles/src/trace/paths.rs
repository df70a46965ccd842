//! Numbers for paths.
//!
//! The records of a trace name a path several times, and traces of one image name the same paths again and again. A reader of many
//! traces knows nearly all paths already, and neither copies nor checks them again.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::FORMAT;
use crate::codec::FormatError;
use crate::path::{PathBytes, RootPath};

/// The number of a path in [`Paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PathNumber(u32);

/// Paths, each once, in the order in which they came. They are stored side by side, because millions of
/// lookups come in nearly that order.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// The bytes of all paths, without separators.
    bytes: Vec<u8>,
    /// For each path, where its bytes end.
    ends: Vec<usize>,
    numbers: HashTable<PathNumber>,
    hasher: RandomState,
}

impl PathNumber {
    /// The number as an index of a vector with one element per path.
    pub(crate) fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl Paths {
    /// The path with this number.
    pub(crate) fn get(&self, number: PathNumber) -> RootPath {
        RootPath::checked(bytes_of(&self.bytes, &self.ends, number))
    }

    /// The number of paths.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of a path in a file. A new path is checked and added.
    pub(super) fn number(&mut self, PathBytes(path): PathBytes<'_>) -> Result<PathNumber, FormatError> {
        let hash = self.hasher.hash_one(path);
        let same = |known: &PathNumber| bytes_of(&self.bytes, &self.ends, *known) == path;
        if let Some(known) = self.numbers.find(hash, same) {
            return Ok(*known);
        }
        RootPath::check(path).map_err(|bad| FORMAT.content(bad.to_string()))?;
        let number =
            u32::try_from(self.len()).map_err(|_| FORMAT.content("the traces have more than 2^32 different paths"))?;
        self.bytes.extend_from_slice(path);
        self.ends.push(self.bytes.len());
        let hash_of = |known: &PathNumber| self.hasher.hash_one(bytes_of(&self.bytes, &self.ends, *known));
        self.numbers.insert_unique(hash, PathNumber(number), hash_of);
        Ok(PathNumber(number))
    }
}

fn bytes_of<'a>(bytes: &'a [u8], ends: &[usize], number: PathNumber) -> &'a [u8] {
    let begin = number.as_usize().checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[begin..ends[number.as_usize()]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_paths_share_a_number_and_bad_ones_have_none() {
        let mut paths = Paths::default();
        let names: Vec<_> = (0..1000).map(|number| format!("/usr/{}", number % 500)).collect();
        let numbers: Vec<_> = names.iter().map(|name| paths.number(PathBytes(name.as_bytes())).unwrap()).collect();
        assert_eq!((&numbers[..500], paths.len()), (&numbers[500..], 500));
        for (name, number) in names.iter().zip(numbers) {
            assert_eq!(paths.get(number).to_string(), *name);
        }
        for bad in ["", "usr", "/usr/", "/usr/../etc"] {
            assert!(paths.number(PathBytes(bad.as_bytes())).is_err(), "{bad}");
        }
        assert_eq!(paths.len(), 500);
    }
}
