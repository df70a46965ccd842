//! A bundle's objects in columns: similar values stand side by side, which compresses well.

use super::{BundleObject, FORMAT, MAX_OBJECTS, Need, OBJECT_MEMORY, PackIndex, PackLocation, ProfileSet, Share};
use crate::codec::{Decode, Encode, FormatError};
use crate::object::{ContentHash, HashAlgorithm, ObjectKind};
use crate::path::RootPath;
use crate::phase::Phase;

/// Most bytes of all paths of a bundle. A path is stored as the difference to the one before, so few bytes of
/// a file could grow to many in memory.
const MAX_PATHS: usize = 256 << 20;

/// One entry per object in each column; an entry of `hashes` has 20 bytes.
#[derive(Debug, Default, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub(super) struct Objects {
    hashes: Vec<u8>,
    algorithms: Vec<u8>,
    kinds: Vec<u8>,
    repositories: Vec<u16>,
    stored_sizes: Vec<u64>,
    raw_sizes: Vec<u64>,
    offsets: Vec<u64>,
    /// Number of bytes that the path shares with the one before.
    path_shared: Vec<u16>,
    /// Number of bytes that follow.
    path_rest: Vec<u16>,
    /// The following bytes of all paths.
    path_bytes: Vec<u8>,
    used_in: Vec<u32>,
    shares: Vec<u16>,
    confidences: Vec<u16>,
    first_us: Vec<u64>,
    /// Typical first use minus earliest first use.
    later_us: Vec<u64>,
    phases: Vec<u8>,
    profiles: Vec<u64>,
}

/// The objects' locations in packs.
#[derive(Debug, Default, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub(super) struct Locations {
    /// 0 for none, else the number of the pack, from 1.
    packs: Vec<u16>,
    /// For each packed object: distance of its start from the end of the object before it in the same pack.
    gaps: Vec<i64>,
}

const ALGORITHMS: [HashAlgorithm; 3] = [HashAlgorithm::Sha1, HashAlgorithm::Rmd160, HashAlgorithm::Shake128];
const KINDS: [ObjectKind; 6] = [
    ObjectKind::File,
    ObjectKind::Chunk,
    ObjectKind::Catalog,
    ObjectKind::History,
    ObjectKind::Certificate,
    ObjectKind::Metainfo,
];
const PHASES: [Phase; 3] = [Phase::SetUp, Phase::StartUp, Phase::Main];

/// The number that stands for a variant in the file: its position in the list.
fn number<T: PartialEq>(variant: &T, all: &[T]) -> u8 {
    all.iter().position(|known| known == variant).unwrap_or_default() as u8
}

pub(super) fn objects(objects: &[BundleObject]) -> Objects {
    let mut columns = Objects::default();
    let mut before: &[u8] = &[];
    for object in objects {
        let path = object.path.as_bytes();
        let shared = path.iter().zip(before).take_while(|(a, b)| a == b).count();
        columns.path_shared.push(shared as u16);
        columns.path_rest.push((path.len() - shared) as u16);
        columns.path_bytes.extend_from_slice(&path[shared..]);
        before = path;
        columns.hashes.extend_from_slice(&object.hash.digest);
        columns.algorithms.push(number(&object.hash.algorithm, &ALGORITHMS));
        columns.kinds.push(number(&object.kind, &KINDS));
        columns.repositories.push(object.repository);
        columns.stored_sizes.push(object.stored_size);
        columns.raw_sizes.push(object.raw_size);
        columns.offsets.push(object.offset);
        let Need { used_in, share, confidence, first_us, typical_us, phase, profiles } = object.need;
        columns.used_in.push(used_in);
        columns.shares.push(share.parts());
        columns.confidences.push(confidence.parts());
        columns.first_us.push(first_us);
        columns.later_us.push(typical_us.saturating_sub(first_us));
        columns.phases.push(number(&phase, &PHASES));
        columns.profiles.push(profiles.0);
    }
    columns
}

/// The objects of the columns, for which at most `memory` bytes are taken.
pub(super) fn from_objects(columns: Objects, memory: usize) -> Result<Vec<BundleObject>, FormatError> {
    let count = columns.kinds.len();
    let lengths = [
        columns.hashes.len() / 20,
        columns.algorithms.len(),
        columns.repositories.len(),
        columns.stored_sizes.len(),
        columns.raw_sizes.len(),
        columns.offsets.len(),
        columns.path_shared.len(),
        columns.path_rest.len(),
        columns.used_in.len(),
        columns.shares.len(),
        columns.confidences.len(),
        columns.first_us.len(),
        columns.later_us.len(),
        columns.phases.len(),
        columns.profiles.len(),
    ];
    if count > MAX_OBJECTS {
        return Err(FORMAT.content(format!("{count} objects, at most {MAX_OBJECTS} are allowed")));
    }
    if lengths.iter().any(|length| *length != count) || !columns.hashes.len().is_multiple_of(20) {
        return Err(FORMAT.content(format!("its columns have {lengths:?} entries, expected {count} each")));
    }
    if count * OBJECT_MEMORY + paths_length(&columns)? > memory {
        return Err(no_memory());
    }
    let mut paths = Paths::new(&columns);
    let mut objects = Vec::with_capacity(count);
    for (index, digest) in columns.hashes.as_chunks::<20>().0.iter().enumerate() {
        let wrong = |what: &str| FORMAT.content(format!("object {} has an unknown {what}", hex::encode(digest)));
        let first_us = columns.first_us[index];
        let share = |parts: u16| Share::from_parts(parts).ok_or_else(|| wrong("share"));
        let need = Need {
            used_in: columns.used_in[index],
            share: share(columns.shares[index])?,
            confidence: share(columns.confidences[index])?,
            first_us,
            typical_us: first_us.checked_add(columns.later_us[index]).ok_or_else(|| wrong("time"))?,
            phase: *PHASES.get(usize::from(columns.phases[index])).ok_or_else(|| wrong("phase"))?,
            profiles: ProfileSet(columns.profiles[index]),
        };
        let algorithm = *ALGORITHMS.get(usize::from(columns.algorithms[index])).ok_or_else(|| wrong("algorithm"))?;
        objects.push(BundleObject {
            hash: ContentHash { algorithm, digest: *digest },
            kind: *KINDS.get(usize::from(columns.kinds[index])).ok_or_else(|| wrong("kind"))?,
            repository: columns.repositories[index],
            stored_size: columns.stored_sizes[index],
            raw_size: columns.raw_sizes[index],
            offset: columns.offsets[index],
            path: paths.next(index)?,
            need,
            packed: None,
        });
    }
    paths.end()?;
    Ok(objects)
}

/// A bundle needs more memory than there is for it.
pub(super) fn no_memory() -> FormatError {
    FORMAT.content("it takes more memory than this program uses for a bundle; build it with fewer objects")
}

/// The length of all paths together.
fn paths_length(columns: &Objects) -> Result<usize, FormatError> {
    let lengths = columns.path_shared.iter().zip(&columns.path_rest);
    match lengths.map(|(shared, rest)| usize::from(*shared) + usize::from(*rest)).sum() {
        length if length > MAX_PATHS => Err(FORMAT.content(format!("its paths have more than {MAX_PATHS} bytes"))),
        length => Ok(length),
    }
}

/// Reader of the path columns.
struct Paths<'a> {
    columns: &'a Objects,
    rest: &'a [u8],
    before: Vec<u8>,
}

impl<'a> Paths<'a> {
    fn new(columns: &'a Objects) -> Self {
        Self { columns, rest: &columns.path_bytes, before: Vec::new() }
    }

    fn next(&mut self, index: usize) -> Result<RootPath, FormatError> {
        let (shared, length) = (self.columns.path_shared[index], self.columns.path_rest[index]);
        let wrong = || FORMAT.content(format!("the path of object {index} is longer than the path bytes"));
        if usize::from(shared) > self.before.len() {
            return Err(wrong());
        }
        let (bytes, rest) = self.rest.split_at_checked(usize::from(length)).ok_or_else(wrong)?;
        self.rest = rest;
        self.before.truncate(usize::from(shared));
        self.before.extend_from_slice(bytes);
        RootPath::new(self.before.as_slice()).map_err(|e| FORMAT.content(e.to_string()))
    }

    fn end(&self) -> Result<(), FormatError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(FORMAT.content(format!("{left} path bytes are left over"))),
        }
    }
}

/// Where the last object of each pack ended, by the pack's number in the file (from 1).
#[derive(Default)]
struct Ends(std::collections::HashMap<u16, u64>);

impl Ends {
    fn get(&self, pack: u16) -> u64 {
        self.0.get(&pack).copied().unwrap_or_default()
    }

    fn set(&mut self, pack: u16, end: u64) {
        self.0.insert(pack, end);
    }
}

/// The columns of the packs section. A number of a pack that the column cannot hold is written as `u16::MAX`, which
/// [`super::sections`] has refused before: a bundle has at most [`super::MAX_PACKS`].
pub(super) fn locations(objects: &[BundleObject]) -> Locations {
    let mut locations = Locations::default();
    let mut ends = Ends::default();
    for object in objects {
        let Some(PackLocation { pack, offset }) = object.packed else {
            locations.packs.push(0);
            continue;
        };
        let number = u16::try_from(pack.as_usize() + 1).unwrap_or(u16::MAX);
        locations.packs.push(number);
        locations.gaps.push(offset.wrapping_sub(ends.get(number)) as i64);
        ends.set(number, offset.wrapping_add(object.stored_size));
    }
    locations
}

pub(super) fn add_locations(objects: &mut [BundleObject], locations: Locations) -> Result<(), FormatError> {
    let packed = locations.packs.iter().filter(|pack| **pack != 0).count();
    if locations.packs.len() != objects.len() || locations.gaps.len() != packed {
        return Err(FORMAT.content("its packs section does not have one entry for each object"));
    }
    let mut ends = Ends::default();
    let mut gaps = locations.gaps.into_iter();
    for (object, number) in objects.iter_mut().zip(locations.packs) {
        let Some(pack) = number.checked_sub(1) else { continue };
        let offset = ends.get(number).wrapping_add(gaps.next().unwrap_or_default() as u64);
        ends.set(number, offset.wrapping_add(object.stored_size));
        object.packed = Some(PackLocation { pack: PackIndex::new(u32::from(pack)), offset });
    }
    Ok(())
}
