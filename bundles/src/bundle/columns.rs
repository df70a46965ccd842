//! A bundle's objects, column by column: equal things stand beside each other, and compress.

use bincode::{Decode, Encode};

use super::{BundleObject, FORMAT, MAX_OBJECTS, Need, Packed, ProfileSet, Share};
use crate::codec::BadFile;
use crate::object::{ContentHash, HashAlgorithm, ObjectKind};
use crate::path::RootPath;
use crate::trace::Phase;

/// The most bytes of all paths of a bundle. Paths are told by what they share with the one before, so that few bytes of a
/// file could make many in memory.
const MAX_PATHS: usize = 256 << 20;

/// One entry an object in each column; `hashes` has 20 bytes.
#[derive(Debug, Default, Encode, Decode)]
pub(super) struct Objects {
    hashes: Vec<u8>,
    algorithms: Vec<u8>,
    kinds: Vec<u8>,
    repositories: Vec<u16>,
    stored_sizes: Vec<u64>,
    raw_sizes: Vec<u64>,
    offsets: Vec<u64>,
    /// Bytes that the path has in common with the one before.
    path_shared: Vec<u16>,
    /// Bytes that follow them.
    path_rest: Vec<u16>,
    /// Those bytes of all paths.
    path_bytes: Vec<u8>,
    used_in: Vec<u32>,
    shares: Vec<u16>,
    confidences: Vec<u16>,
    first_us: Vec<u64>,
    /// How much later than the earliest first use the typical one is.
    later_us: Vec<u64>,
    phases: Vec<u8>,
    profiles: Vec<u64>,
}

/// Where the objects are in packs.
#[derive(Debug, Default, Encode, Decode)]
pub(super) struct Places {
    /// 0 for none, else the number of the pack, from 1.
    packs: Vec<u16>,
    /// Of those that are in one: how far the object is behind the end of the object before, in the same pack.
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

/// The number of a variant, its place in the list of them.
fn number<T: PartialEq>(of: &T, all: &[T]) -> u8 {
    all.iter().position(|one| one == of).unwrap_or_default() as u8
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

pub(super) fn from_objects(columns: Objects) -> Result<Vec<BundleObject>, BadFile> {
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
        return Err(FORMAT.content(format!("its columns have {lengths:?} entries, the first has {count}")));
    }
    let mut paths = Paths::new(&columns);
    let mut objects = Vec::with_capacity(count);
    for (place, digest) in columns.hashes.as_chunks::<20>().0.iter().enumerate() {
        let wrong = |what: &str| FORMAT.content(format!("object {} has an unknown {what}", hex::encode(digest)));
        let first_us = columns.first_us[place];
        let share = |parts: u16| Share::from_parts(parts).ok_or_else(|| wrong("share"));
        let need = Need {
            used_in: columns.used_in[place],
            share: share(columns.shares[place])?,
            confidence: share(columns.confidences[place])?,
            first_us,
            typical_us: first_us.checked_add(columns.later_us[place]).ok_or_else(|| wrong("time"))?,
            phase: *PHASES.get(usize::from(columns.phases[place])).ok_or_else(|| wrong("phase"))?,
            profiles: ProfileSet(columns.profiles[place]),
        };
        let algorithm = *ALGORITHMS.get(usize::from(columns.algorithms[place])).ok_or_else(|| wrong("algorithm"))?;
        objects.push(BundleObject {
            hash: ContentHash { algorithm, digest: *digest },
            kind: *KINDS.get(usize::from(columns.kinds[place])).ok_or_else(|| wrong("kind"))?,
            repository: columns.repositories[place],
            stored_size: columns.stored_sizes[place],
            raw_size: columns.raw_sizes[place],
            offset: columns.offsets[place],
            path: paths.next(place)?,
            need,
            packed: None,
        });
    }
    paths.end()?;
    Ok(objects)
}

/// Paths, one after the other.
struct Paths<'a> {
    columns: &'a Objects,
    rest: &'a [u8],
    before: Vec<u8>,
    total: usize,
}

impl<'a> Paths<'a> {
    fn new(columns: &'a Objects) -> Self {
        Self { columns, rest: &columns.path_bytes, before: Vec::new(), total: 0 }
    }

    fn next(&mut self, place: usize) -> Result<RootPath, BadFile> {
        let (shared, length) = (self.columns.path_shared[place], self.columns.path_rest[place]);
        let wrong = || FORMAT.content(format!("the path of object {place} is longer than what there is of it"));
        if usize::from(shared) > self.before.len() {
            return Err(wrong());
        }
        let (bytes, rest) = self.rest.split_at_checked(usize::from(length)).ok_or_else(wrong)?;
        self.rest = rest;
        self.before.truncate(usize::from(shared));
        self.before.extend_from_slice(bytes);
        self.total += self.before.len();
        if self.total > MAX_PATHS {
            return Err(FORMAT.content(format!("its paths have more than {MAX_PATHS} bytes")));
        }
        RootPath::new(self.before.as_slice()).map_err(|e| FORMAT.content(e.to_string()))
    }

    fn end(&self) -> Result<(), BadFile> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(FORMAT.content(format!("{left} bytes of paths are left over"))),
        }
    }
}

/// Where an object that follows the last one in its pack begins, for each pack.
#[derive(Default)]
struct Ends(std::collections::HashMap<u16, u64>);

impl Ends {
    fn of(&self, pack: u16) -> u64 {
        self.0.get(&pack).copied().unwrap_or_default()
    }

    fn set(&mut self, pack: u16, end: u64) {
        self.0.insert(pack, end);
    }
}

pub(super) fn places(objects: &[BundleObject]) -> Places {
    let (mut places, mut ends) = (Places::default(), Ends::default());
    for object in objects {
        let Some(Packed { pack, offset }) = object.packed else {
            places.packs.push(0);
            continue;
        };
        places.packs.push(pack.saturating_add(1));
        places.gaps.push(offset.wrapping_sub(ends.of(pack)) as i64);
        ends.set(pack, offset.wrapping_add(object.stored_size));
    }
    places
}

pub(super) fn add_places(objects: &mut [BundleObject], places: Places) -> Result<(), BadFile> {
    let packed = places.packs.iter().filter(|pack| **pack != 0).count();
    if places.packs.len() != objects.len() || places.gaps.len() != packed {
        return Err(FORMAT.content("its packs do not say of each object where it is"));
    }
    let mut ends = Ends::default();
    let mut gaps = places.gaps.into_iter();
    for (object, pack) in objects.iter_mut().zip(places.packs) {
        let Some(pack) = pack.checked_sub(1) else { continue };
        let offset = ends.of(pack).wrapping_add(gaps.next().unwrap_or_default() as u64);
        ends.set(pack, offset.wrapping_add(object.stored_size));
        object.packed = Some(Packed { pack, offset });
    }
    Ok(())
}
