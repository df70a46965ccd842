//! A bundle's payload: sections, each compressed.
//!
//! ```text
//! offset  size  content
//!      0     2  number of the section, little endian
//!      2     2  flags: 1 = a reader that does not know the section must refuse the file
//!      4     4  length of what follows the header
//!      8     4  its length decompressed
//!     12     n  one zstd frame: bincode 2
//! ```

use serde::Serialize;

use super::columns::{self, Locations, Objects};
use super::layer::Layers;
use super::{
    Bundle, FORMAT, MAX_CATALOGS, MAX_OBJECTS, MAX_PACKS, MAX_PROFILES, MAX_REPOSITORIES, NeededCatalog, PackRef,
    Profile, PublishedLayer, Rebased, Skipped, layer, locations,
};
use crate::codec::{AtMost, Decode, Encode, FormatError, MAX_PAYLOAD, Minor};
use crate::image::ImageId;
use crate::layout::is_repository_name;

const HEAD: u16 = 1;
const OBJECTS: u16 = 2;
const PROFILES: u16 = 3;
const CATALOGS: u16 = 4;
const PACKS: u16 = 5;
const CARRIED: u16 = 6;
const LAYERS: u16 = 7;

/// Flag: readers that do not know the section must refuse the file.
const NEEDED: u16 = 1;

const HEADER: usize = 12;

/// Largest growth of a section of more than [`FREE`] bytes on decompression. Hashes do not compress and make
/// up half of an object, so honest sections stay far below.
const MAX_RATIO: usize = 100;
const FREE: usize = 1 << 20;

/// The highest level that is fast: for 50,000 objects, the slowest levels save 1% and take half a second.
const LEVEL: i32 = 9;

#[derive(Debug, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
struct Head {
    image: ImageId,
    repositories: Vec<String>,
    traces: u32,
    incomplete_traces: u32,
    skipped: Skipped,
}

/// Encodes the payload of a bundle file.
pub(super) fn encode(bundle: &Bundle) -> Result<Vec<u8>, FormatError> {
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
        put(&mut payload, PACKS, 0, &(&bundle.packs, columns::locations(&bundle.objects)))?;
    }
    if let Some(rebased) = &bundle.rebased {
        put(&mut payload, CARRIED, 0, rebased)?;
    }
    if !bundle.layers.is_empty() {
        put(&mut payload, LAYERS, 0, &bundle.layers)?;
    }
    Ok(payload)
}

fn put<T: Encode>(payload: &mut Vec<u8>, number: u16, flags: u16, content: &T) -> Result<(), FormatError> {
    let raw = FORMAT.encode(content)?;
    let stored = zstd::bulk::compress(&raw, LEVEL).map_err(|e| FORMAT.content(e.to_string()))?;
    let too_large = |len: usize| FormatError::TooLarge { kind: FORMAT.name, size: len as u64 };
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

/// Decodes only the layers in the payload of a bundle file. `max` bounds their size in bytes, encoded.
pub(super) fn decode_layers(payload: &[u8], minor: Minor, max: usize) -> Result<Vec<PublishedLayer>, FormatError> {
    let mut rest = payload;
    while !rest.is_empty() {
        let section = Section::take(&mut rest)?;
        if section.number != LAYERS {
            continue;
        }
        if section.raw > max {
            return Err(FORMAT.content(format!("its layers take {} bytes, at most {max} are read", section.raw)));
        }
        let Layers(layers) = section.decode(minor)?;
        layer::check(&layers)?;
        return Ok(layers);
    }
    Ok(Vec::new())
}

/// Decodes the payload of a bundle file. `memory` bounds the bytes that are taken for it at a time.
pub(super) fn decode(payload: &[u8], minor: Minor, memory: usize) -> Result<Bundle, FormatError> {
    let memory_for_objects = memory.checked_sub(memory_to_decode(payload)?).ok_or_else(columns::no_memory)?;
    let mut head = None;
    let mut objects = None;
    let mut profiles = AtMost::<Profile, MAX_PROFILES>(Vec::new());
    let mut catalogs = AtMost::<NeededCatalog, MAX_CATALOGS>(Vec::new());
    let mut packs: Option<(AtMost<PackRef, MAX_PACKS>, Locations)> = None;
    let mut rebased: Option<Rebased> = None;
    let mut layers = Layers::default();
    let mut rest = payload;
    let mut last = 0;
    let mut total = 0;
    while !rest.is_empty() {
        let section = Section::take(&mut rest)?;
        // Sections are sorted and unique, so that a bundle has exactly one encoding.
        if section.number <= last {
            return Err(FORMAT.content(format!("section {} follows section {last}", section.number)));
        }
        last = section.number;
        total += section.raw;
        if total > MAX_PAYLOAD {
            return Err(FormatError::TooLarge { kind: FORMAT.name, size: total as u64 });
        }
        match section.number {
            HEAD => head = Some(section.decode::<Head>(minor)?),
            OBJECTS => objects = Some(section.decode::<Objects>(minor)?),
            PROFILES => profiles = section.decode(minor)?,
            CATALOGS => catalogs = section.decode(minor)?,
            PACKS => packs = Some(section.decode(minor)?),
            CARRIED => rebased = Some(section.decode(minor)?),
            LAYERS => layers = section.decode(minor)?,
            number if section.flags & NEEDED != 0 => {
                let reason =
                    format!("it needs section {number}, which this program does not know: upgrade cvmfs-prefetch");
                return Err(FORMAT.content(reason));
            }
            _ => {}
        }
    }
    let missing = |what: &str| FORMAT.content(format!("it has no {what}"));
    let Head { image, repositories, traces, incomplete_traces, skipped } = head.ok_or_else(|| missing("head"))?;
    let mut objects = columns::from_objects(objects.ok_or_else(|| missing("objects"))?, memory_for_objects)?;
    let packs = match packs {
        Some((AtMost(packs), locations)) => {
            columns::add_locations(&mut objects, locations)?;
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
        profiles: profiles.0,
        catalogs: catalogs.0,
        packs,
        rebased,
        layers: layers.0,
        skipped,
    };
    check(&bundle)?;
    Ok(bundle)
}

/// How many bytes of memory the sections of a payload take at most while they are decoded, without the objects that are then made
/// of their columns. It follows from the sizes in the sections' headers.
fn memory_to_decode(payload: &[u8]) -> Result<usize, FormatError> {
    let (mut rest, mut sum) = (payload, 0_usize);
    while !rest.is_empty() {
        let section = Section::take(&mut rest)?;
        sum = sum.saturating_add(section.raw.saturating_mul(growth(section.number)));
    }
    Ok(sum)
}

/// How many bytes of memory a decoded byte of a section becomes at most, itself included.
fn growth(number: u16) -> usize {
    match number {
        // An object has 36 bytes or more, and 86 in its columns.
        OBJECTS => 4,
        // A location has 2 bytes or more, and then 10.
        PACKS => 6,
        // An empty name of a whiteout has 1 byte, and then 24.
        LAYERS => 25,
        // Strings, which may be as short.
        HEAD | PROFILES | CATALOGS | CARRIED => 33,
        _ => 0,
    }
}

struct Section<'a> {
    number: u16,
    flags: u16,
    raw: usize,
    stored: &'a [u8],
}

impl<'a> Section<'a> {
    fn take(rest: &mut &'a [u8]) -> Result<Self, FormatError> {
        let cut = || FORMAT.content("its last section is truncated");
        let (header, behind) = rest.split_first_chunk::<HEADER>().ok_or_else(cut)?;
        let [n0, n1, f0, f1, s0, s1, s2, s3, r0, r1, r2, r3] = *header;
        let (number, flags) = (u16::from_le_bytes([n0, n1]), u16::from_le_bytes([f0, f1]));
        let stored = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let raw = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        let (stored, behind) = behind.split_at_checked(stored).ok_or_else(cut)?;
        *rest = behind;
        if raw > FREE && raw / MAX_RATIO > stored.len() {
            let reason =
                format!("section {number} grows from {} to {raw} bytes, more than {MAX_RATIO} times", stored.len());
            return Err(FORMAT.content(reason));
        }
        Ok(Self { number, flags, raw, stored })
    }

    fn decode<T: Decode<Minor>>(&self, minor: Minor) -> Result<T, FormatError> {
        let wrong = |reason: String| FORMAT.content(format!("section {}: {reason}", self.number));
        if self.raw > MAX_PAYLOAD {
            return Err(FormatError::TooLarge { kind: FORMAT.name, size: self.raw as u64 });
        }
        let raw = zstd::bulk::decompress(self.stored, self.raw).map_err(|e| wrong(e.to_string()))?;
        if raw.len() != self.raw {
            return Err(wrong(format!("it has {} bytes instead of {}", raw.len(), self.raw)));
        }
        FORMAT.decode_all::<T, MAX_PAYLOAD>(&raw, minor)
    }
}

/// Checks what the format guarantees beyond its encoding.
fn check(bundle: &Bundle) -> Result<(), FormatError> {
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
    if let Some(name) = bundle.repositories.iter().find(|name| !is_repository_name(name)) {
        return Err(FORMAT.content(format!("{name:?} is not a repository name")));
    }
    let (repositories, packs) = (bundle.repositories.len(), bundle.packs.len());
    let known = if bundle.profiles.len() == MAX_PROFILES { u64::MAX } else { (1 << bundle.profiles.len()) - 1 };
    for object in &bundle.objects {
        let packed_validly = object.packed.is_none_or(|packed| packed.pack.as_usize() < packs);
        if usize::from(object.repository) >= repositories || object.need.profiles.0 & !known != 0 || !packed_validly {
            let reason = format!("object {} refers to an unknown repository, profile or pack", object.hash);
            return Err(FORMAT.content(reason));
        }
    }
    locations::check(bundle)?;
    layer::check(&bundle.layers)?;
    match bundle.catalogs.iter().find(|catalog| usize::from(catalog.repository) >= repositories) {
        Some(catalog) => Err(FORMAT.content(format!("catalog {} refers to an unknown repository", catalog.mountpoint))),
        None => Ok(()),
    }
}
