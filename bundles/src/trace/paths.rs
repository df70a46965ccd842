//! Paths by numbers.
//!
//! The records of a trace name a path several times, and the traces of an image name the same paths again and again. Who
//! reads many of them knows nearly all paths already, and neither copies nor checks them again.

use indexmap::IndexSet;

use super::FORMAT;
use crate::codec::BadFile;
use crate::path::{PathBytes, RootPath};

/// The number of a path among [`Paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PathNumber(u32);

/// Paths, each once, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Paths(IndexSet<RootPath, foldhash::fast::RandomState>);

impl PathNumber {
    /// The place that a list has for it in which every path has one.
    pub(crate) fn place(self) -> usize {
        self.0 as usize
    }
}

impl Paths {
    /// The path of that number.
    pub(crate) fn get(&self, number: PathNumber) -> &RootPath {
        &self.0[number.place()]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of the path that a file tells.
    pub(super) fn number(&mut self, PathBytes(bytes): PathBytes<'_>) -> Result<PathNumber, BadFile> {
        let place = match self.0.get_index_of(bytes) {
            Some(place) => place,
            None => self.0.insert_full(RootPath::new(bytes).map_err(|bad| FORMAT.content(bad.to_string()))?).0,
        };
        let number =
            u32::try_from(place).map_err(|_| FORMAT.content("it names more than 2^32 paths with those before"))?;
        Ok(PathNumber(number))
    }
}
