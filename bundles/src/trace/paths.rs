//! Paths by numbers.
//!
//! The records of a trace name a path several times, and the traces of an image name the same paths again and again. Who
//! reads many of them knows nearly all paths already, and neither copies nor checks them again.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::FORMAT;
use crate::codec::BadFile;
use crate::path::{PathBytes, RootPath};

/// The number of a path among [`Paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PathNumber(u32);

/// Paths, each once, in the order in which they came. They stand close to each other, for they are looked up millions of
/// times, and mostly in nearly that order.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// All bytes, without anything between the paths.
    bytes: Vec<u8>,
    /// For each path where its bytes end.
    ends: Vec<usize>,
    numbers: HashTable<PathNumber>,
    hasher: RandomState,
}

impl PathNumber {
    /// The place that a list has for it in which every path has one.
    pub(crate) fn place(self) -> usize {
        self.0 as usize
    }
}

impl Paths {
    /// The path of that number.
    pub(crate) fn get(&self, number: PathNumber) -> RootPath {
        RootPath::checked(bytes_of(&self.bytes, &self.ends, number))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of the path that a file tells.
    pub(super) fn number(&mut self, PathBytes(path): PathBytes<'_>) -> Result<PathNumber, BadFile> {
        let hash = self.hasher.hash_one(path);
        let same = |known: &PathNumber| bytes_of(&self.bytes, &self.ends, *known) == path;
        if let Some(known) = self.numbers.find(hash, same) {
            return Ok(*known);
        }
        RootPath::check(path).map_err(|bad| FORMAT.content(bad.to_string()))?;
        let number =
            u32::try_from(self.len()).map_err(|_| FORMAT.content("more than 2^32 paths, with those before"))?;
        self.bytes.extend_from_slice(path);
        self.ends.push(self.bytes.len());
        let hash_of = |known: &PathNumber| self.hasher.hash_one(bytes_of(&self.bytes, &self.ends, *known));
        self.numbers.insert_unique(hash, PathNumber(number), hash_of);
        Ok(PathNumber(number))
    }
}

fn bytes_of<'a>(bytes: &'a [u8], ends: &[usize], number: PathNumber) -> &'a [u8] {
    let begin = number.place().checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[begin..ends[number.place()]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_number_and_what_is_none_has_no_number() {
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
