//! What a bundle needs of traces, as they are read one after the other.

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::names::{FileName, name};
use super::profiles;
use super::uses::{Parts, Touched, Traced};
use crate::codec::BadFile;
use crate::trace::{FileUse, MountedRepository, PathNumber, Paths, read_numbered};

/// Some traces, of which little is kept: memory grows with the uses only, not with all that is told of them.
#[derive(Debug, Default)]
pub(super) struct Collection {
    pub(super) traces: Vec<(Traced, Vec<Use>)>,
    pub(super) files: IndexSet<FileName, RandomState>,
    pub(super) parts: Parts,
    /// All paths of all traces.
    paths: Paths,
    places: Places,
}

/// A trace's use of a file that needs what is published.
#[derive(Debug)]
pub(super) struct Use {
    /// The file's place among all.
    pub(super) file: u32,
    pub(super) touched: Touched,
    pub(super) at_us: u64,
}

/// Where among the files those are that a trace has at the paths. The next trace mostly has the same there.
#[derive(Debug, Default)]
struct Places {
    /// What was mounted in the container.
    repositories: Vec<MountedRepository>,
    of_paths: Vec<Option<u32>>,
}

impl Collection {
    /// Adds the trace in a file's bytes. If `profile` is given, it shows that kind of work, whatever it says itself.
    pub(super) fn add(&mut self, file: &[u8], profile: Option<&str>) -> Result<(), BadFile> {
        let (trace, files) = read_numbered(file, &mut self.paths)?;
        if self.places.repositories != trace.repositories {
            self.places = Places { repositories: trace.repositories.clone(), of_paths: Vec::new() };
        }
        self.places.of_paths.resize(self.paths.len(), None);
        let mut uses = Vec::with_capacity(files.len());
        for used in &files {
            let file = self.place(used.path);
            if used.needs_image() {
                uses.push(Use { file, touched: self.touched(used), at_us: used.at_us });
            }
        }
        let traced = Traced {
            complete: trace.is_complete(),
            profile: profiles::name_of(profile.unwrap_or(&trace.profile), &trace.command, &files, &self.paths),
            phases: trace.phases,
            image: trace.image,
        };
        self.traces.push((traced, uses));
        Ok(())
    }

    /// The place among the files of the one at a path in the last trace's container.
    fn place(&mut self, path: PathNumber) -> u32 {
        let Places { repositories, of_paths } = &mut self.places;
        *of_paths[path.place()].get_or_insert_with(|| {
            let name = name(repositories, self.paths.get(path));
            self.files.insert_full(name).0 as u32
        })
    }

    fn touched(&mut self, used: &FileUse<PathNumber>) -> Touched {
        // Only what was asked for counts: what the kernel read ahead it would not have waited for.
        match used.ranges.as_ref().map(|ranges| ranges.read.as_slice()) {
            None => Touched::All,
            Some([part]) if part.start == 0 && part.end >= used.size => Touched::All,
            Some(parts) => self.parts.add(parts),
        }
    }
}
