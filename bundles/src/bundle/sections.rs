//! A bundle's payload: sections, each compressed.
//!
//! ```text
//! offset  size  what
//!      0     2  number of the section, little endian
//!      2     2  flags: 1 = a reader that does not know the section must refuse the file
//!      4     4  length of what follows the header
//!      8     4  its length decompressed
//!     12     n  one zstd frame: bincode 2
//! ```

use bincode::{Decode, Encode};
use serde::Serialize;

use super::columns::{self, Objects, Places};
use super::{
    Bundle, CarriedOver, FORMAT, MAX_CATALOGS, MAX_OBJECTS, MAX_PACKS, MAX_PROFILES, MAX_REPOSITORIES, NeededCatalog,
    PackRef, Profile, PublishedLayer, Skipped, is_fqrn, layer,
};
use crate::codec::{BadFile, MAX_PAYLOAD, Minor};
use crate::image::ImageId;

const HEAD: u16 = 1;
const OBJECTS: u16 = 2;
const PROFILES: u16 = 3;
const CATALOGS: u16 = 4;
const PACKS: u16 = 5;
const CARRIED: u16 = 6;
const LAYERS: u16 = 7;

/// Without this section the others would be misunderstood.
const NEEDED: u16 = 1;

const HEADER: usize = 12;

/// The most that a section of more than [`FREE`] bytes may grow when it is decompressed. Hashes do not compress, and make
/// half of an object, so honest sections are far below.
const MAX_RATIO: usize = 100;
const FREE: usize = 1 << 20;

/// The last that is quick to write: of 50,000 objects the slowest ones would save a hundredth, and take half a second.
const LEVEL: i32 = 9;

#[derive(Debug, Serialize, Encode, Decode)]
struct Head {
    image: ImageId,
    repositories: Vec<String>,
    traces: u32,
    incomplete_traces: u32,
    skipped: Skipped,
}

/// The payload of a bundle's file.
pub(super) fn encode(bundle: &Bundle) -> Result<Vec<u8>, BadFile> {
    check(bundle)?;
    let mut payload = Vec::new();
    let head = Head {
        image: bundle.image.clone(),
        repositories: bundle.repositories.clone(),
        traces: bundle.traces,
        incomplete_traces: bundle.incomplete_traces,
        skipped: bundle.skipped,
    };
    put(&mut payload, HEAD, NEEDED, &head)?;
    put(&mut payload, OBJECTS, NEEDED, &columns::objects(&bundle.objects))?;
    if !bundle.profiles.is_empty() {
        put(&mut payload, PROFILES, NEEDED, &bundle.profiles)?;
    }
    if !bundle.catalogs.is_empty() {
        put(&mut payload, CATALOGS, 0, &bundle.catalogs)?;
    }
    if !bundle.packs.is_empty() {
        put(&mut payload, PACKS, 0, &(&bundle.packs, columns::places(&bundle.objects)))?;
    }
    if let Some(carried) = &bundle.carried {
        put(&mut payload, CARRIED, 0, carried)?;
    }
    if !bundle.layers.is_empty() {
        put(&mut payload, LAYERS, 0, &bundle.layers)?;
    }
    Ok(payload)
}

fn put<T: Encode>(payload: &mut Vec<u8>, number: u16, flags: u16, content: &T) -> Result<(), BadFile> {
    let raw = FORMAT.encode(content)?;
    let stored = zstd::bulk::compress(&raw, LEVEL).map_err(|e| FORMAT.content(e.to_string()))?;
    let too_large = |len: usize| BadFile::TooLarge { kind: FORMAT.name, size: len as u64 };
    for len in [stored.len(), raw.len()] {
        if len > MAX_PAYLOAD {
            return Err(too_large(len));
        }
    }
    payload.extend_from_slice(&number.to_le_bytes());
    payload.extend_from_slice(&flags.to_le_bytes());
    payload.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    payload.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    payload.extend_from_slice(&stored);
    Ok(())
}

/// The bundle of a payload.
pub(super) fn decode(payload: &[u8], minor: Minor) -> Result<Bundle, BadFile> {
    let mut head = None;
    let mut objects = None;
    let (mut profiles, mut catalogs) = (Vec::<Profile>::new(), Vec::<NeededCatalog>::new());
    let mut packs: Option<(Vec<PackRef>, Places)> = None;
    let mut carried: Option<CarriedOver> = None;
    let mut layers = Vec::<PublishedLayer>::new();
    let (mut rest, mut last, mut total) = (payload, 0, 0);
    while !rest.is_empty() {
        let section = Section::take(&mut rest)?;
        // In order and each once, so that there is one way to write a bundle.
        if section.number <= last {
            return Err(FORMAT.content(format!("section {} follows section {last}", section.number)));
        }
        last = section.number;
        total += section.raw;
        if total > MAX_PAYLOAD {
            return Err(BadFile::TooLarge { kind: FORMAT.name, size: total as u64 });
        }
        match section.number {
            HEAD => head = Some(section.decode::<Head>(minor)?),
            OBJECTS => objects = Some(section.decode::<Objects>(minor)?),
            PROFILES => profiles = section.decode(minor)?,
            CATALOGS => catalogs = section.decode(minor)?,
            PACKS => packs = Some(section.decode(minor)?),
            CARRIED => carried = Some(section.decode(minor)?),
            LAYERS => layers = section.decode(minor)?,
            number if section.flags & NEEDED != 0 => {
                let why =
                    format!("it needs section {number}, which this program does not know: upgrade cvmfs-prefetch");
                return Err(FORMAT.content(why));
            }
            _ => {}
        }
    }
    let missing = |what: &str| FORMAT.content(format!("it has no {what}"));
    let Head { image, repositories, traces, incomplete_traces, skipped } = head.ok_or_else(|| missing("head"))?;
    let mut objects = columns::from_objects(objects.ok_or_else(|| missing("objects"))?)?;
    let packs = match packs {
        Some((packs, places)) => {
            columns::add_places(&mut objects, places)?;
            packs
        }
        None => Vec::new(),
    };
    let bundle = Bundle {
        image,
        repositories,
        traces,
        incomplete_traces,
        objects,
        profiles,
        catalogs,
        packs,
        carried,
        layers,
        skipped,
    };
    check(&bundle)?;
    Ok(bundle)
}

struct Section<'a> {
    number: u16,
    flags: u16,
    raw: usize,
    stored: &'a [u8],
}

impl<'a> Section<'a> {
    fn take(rest: &mut &'a [u8]) -> Result<Self, BadFile> {
        let cut = || FORMAT.content("its last section is cut");
        let (header, behind) = rest.split_first_chunk::<HEADER>().ok_or_else(cut)?;
        let [n0, n1, f0, f1, s0, s1, s2, s3, r0, r1, r2, r3] = *header;
        let (number, flags) = (u16::from_le_bytes([n0, n1]), u16::from_le_bytes([f0, f1]));
        let stored = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let raw = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        let (stored, behind) = behind.split_at_checked(stored).ok_or_else(cut)?;
        *rest = behind;
        if raw > FREE && raw / MAX_RATIO > stored.len() {
            let why = format!("section {number} grows from {} to {raw} bytes, at most {MAX_RATIO} times", stored.len());
            return Err(FORMAT.content(why));
        }
        Ok(Self { number, flags, raw, stored })
    }

    fn decode<T: Decode<Minor>>(&self, minor: Minor) -> Result<T, BadFile> {
        let wrong = |why: String| FORMAT.content(format!("section {}: {why}", self.number));
        if self.raw > MAX_PAYLOAD {
            return Err(BadFile::TooLarge { kind: FORMAT.name, size: self.raw as u64 });
        }
        let raw = zstd::bulk::decompress(self.stored, self.raw).map_err(|e| wrong(e.to_string()))?;
        if raw.len() != self.raw {
            return Err(wrong(format!("it has {} bytes, {} are promised", raw.len(), self.raw)));
        }
        FORMAT.decode_all::<T, MAX_PAYLOAD>(&raw, minor)
    }
}

/// What the format promises, beyond its encoding.
fn check(bundle: &Bundle) -> Result<(), BadFile> {
    for (count, max, what) in [
        (bundle.objects.len(), MAX_OBJECTS, "objects"),
        (bundle.repositories.len(), MAX_REPOSITORIES, "repositories"),
        (bundle.profiles.len(), MAX_PROFILES, "profiles"),
        (bundle.catalogs.len(), MAX_CATALOGS, "catalogs"),
        (bundle.packs.len(), MAX_PACKS, "packs"),
    ] {
        if count > max {
            return Err(FORMAT.content(format!("{count} {what}, at most {max} are allowed")));
        }
    }
    if bundle.repositories.is_empty() {
        return Err(FORMAT.content("it names no repository"));
    }
    if let Some(name) = bundle.repositories.iter().find(|name| !is_fqrn(name)) {
        return Err(FORMAT.content(format!("{name:?} is not a repository name")));
    }
    let (repositories, packs) = (bundle.repositories.len(), bundle.packs.len());
    let known = if bundle.profiles.len() == MAX_PROFILES { u64::MAX } else { (1 << bundle.profiles.len()) - 1 };
    for object in &bundle.objects {
        let packed_well = object.packed.is_none_or(|packed| usize::from(packed.pack) < packs);
        if usize::from(object.repository) >= repositories || object.need.profiles.0 & !known != 0 || !packed_well {
            let why = format!("object {} names a repository, profile or pack that is not there", object.hash);
            return Err(FORMAT.content(why));
        }
    }
    layer::check(&bundle.layers)?;
    match bundle.catalogs.iter().find(|catalog| usize::from(catalog.repository) >= repositories) {
        Some(catalog) => {
            Err(FORMAT.content(format!("catalog {} names a repository that is not there", catalog.mountpoint)))
        }
        None => Ok(()),
    }
}
