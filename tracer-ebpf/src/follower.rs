//! One container that is followed: its events, from the first of the runtime's set-up on.
//!
//! Until the container's root and its mounts are known, and until somebody wants the trace, events wait. Then each is
//! either a use of the image or of CVMFS, and goes into the journal, or is left out and counted.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bundles::path::RootPath;
use bundles::phase::Phase;
use bundles::trace::{BlindSpots, ExcludedReason, Head, Lookup, LossCause, Losses, Range, Ranges, Use, WriteError};

use crate::clock;
use crate::event::{Event, Inode, What};
use crate::journal::{Journal, Output, Used};
use crate::mounts::{self, Mount};
use crate::places::{Place, Places};

/// Events that may wait. A runtime's set-up has some hundreds; the rest is what others do on their overlays meanwhile.
const MAX_WAITING: usize = 1 << 16;

/// What a trace begins with, but for the time.
#[derive(Debug, Clone)]
pub(crate) struct Preface {
    pub(crate) head: Head,
    pub(crate) max_files: usize,
    /// log2 of the page size.
    pub(crate) page_shift: u32,
}

/// What to tell the kernel part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// The pages of this content are of no interest.
    Foreign(Inode),
}

pub(crate) struct Follower {
    /// Where the container's processes are listed.
    cgroup: PathBuf,
    /// The process that did the first exec.
    first: u32,
    wanted: Option<(Preface, Output)>,
    waiting: Vec<Event>,
    root: Option<(u32, PathBuf)>,
    /// When the first exec was seen.
    pub(crate) began_ns: Option<u64>,
    places: Option<Places>,
    /// Mounts as they were before the first exec, should the container be gone when they are looked for after it.
    early: Option<Vec<Mount>>,
    zero_ns: u64,
    journal: Option<Journal>,
    page_shift: u32,
    pub(crate) losses: Losses,
    /// Events that were lost before it came, of nobody knows which container.
    pub(crate) unread_before: u64,
    failed: Option<WriteError>,
}

impl Follower {
    /// A container that is still to start.
    pub(crate) fn new(cgroup: PathBuf) -> Self {
        Self {
            cgroup,
            first: 0,
            wanted: None,
            waiting: Vec::new(),
            root: None,
            began_ns: None,
            places: None,
            early: None,
            zero_ns: 0,
            journal: None,
            page_shift: 12,
            losses: Losses::default(),
            unread_before: 0,
            failed: None,
        }
    }

    /// A container that runs already, with what is mounted in it.
    pub(crate) fn running(cgroup: PathBuf, places: Places, now_ns: u64) -> Self {
        Self { places: Some(places), began_ns: Some(now_ns), zero_ns: now_ns, ..Self::new(cgroup) }
    }

    /// From now on, and for what has waited, there is somebody who wants the trace.
    pub(crate) fn want(&mut self, preface: Preface, out: Output) {
        self.page_shift = preface.page_shift;
        self.wanted = Some((preface, out));
        self.open_if_ready();
    }

    pub(crate) fn is_setting_up(&self) -> bool {
        self.began_ns.is_none()
    }

    pub(crate) fn files(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::files)
    }

    pub(crate) fn take(&mut self, event: Event) -> Option<Advice> {
        if let What::Begin { device, root } = &event.what {
            self.begin(event.time_ns, event.host_process, *device, root);
            return None;
        }
        // Of processes outside only those matter that act on the root before the container does.
        if event.target == 0 && !self.is_setting_up() {
            return None;
        }
        match &self.journal {
            Some(_) => self.record(event),
            None if self.waiting.len() < MAX_WAITING => {
                self.waiting.push(event);
                None
            }
            None => {
                self.losses.add(LossCause::BufferFull, 1);
                None
            }
        }
    }

    /// To be called now and then.
    pub(crate) fn tick(&mut self) {
        if self.is_setting_up()
            && let Some(mounts) = self.container_mounts()
        {
            self.early = Some(mounts);
        }
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.flush_if_due()
        {
            self.failed.get_or_insert(error);
        }
    }

    /// Marks the end of start-up.
    pub(crate) fn started_up(&mut self, time_ns: u64) {
        let at_us = self.at_us(time_ns);
        self.write(|journal| journal.phase(Phase::Main, at_us));
    }

    /// Microseconds from the trace's time zero.
    pub(crate) fn at_us(&self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(self.zero_ns) / 1000
    }

    /// The journal, to be ended, unless the container never began; or why it could not be written.
    pub(crate) fn close(mut self) -> Result<Option<(Journal, Losses)>, WriteError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.journal.map(|journal| (journal, self.losses))),
        }
    }

    /// Mounts of a process of the container, once it has the container's root.
    pub(crate) fn container_mounts(&self) -> Option<Vec<Mount>> {
        let own_root = mounts::covering(&mounts::own().ok()?, Path::new("/"))?.clone();
        let processes = fs::read_to_string(self.cgroup.join("cgroup.procs")).ok()?;
        let mut mounts = processes.lines().filter_map(|line| mounts::of(line.parse().ok()?).ok());
        mounts.find(|mounts| {
            let root = mounts::covering(mounts, Path::new("/"));
            root.is_some_and(|root| (root.device, &root.root) != (own_root.device, &own_root.root))
        })
    }

    /// The first exec has happened. The kernel part tells it twice, lest it be lost: by an event and in its table of targets.
    pub(crate) fn begin(&mut self, time_ns: u64, process: u32, device: u32, root: &RootPath) {
        if self.began_ns.is_some() {
            return;
        }
        self.began_ns = Some(time_ns);
        self.first = process;
        let root = PathBuf::from(OsStr::from_bytes(root.as_bytes()));
        let host = mounts::own().unwrap_or_default();
        let has_root = |mounts: &Vec<Mount>| mounts.iter().any(|mount| mount.device == device);
        // The process may have ended by now, and all others with it.
        let now = mounts::of(process).ok().filter(has_root).or_else(|| self.container_mounts().filter(has_root));
        let seen = now.or_else(|| self.early.take().filter(has_root)).and_then(|mounts| Places::new(mounts, &host));
        self.places = Some(match seen {
            Some(places) => places.with_root(device, root.clone()),
            None => Places::of_root(device, root.clone(), &host),
        });
        self.root = Some((device, root));
        self.early = None;
        self.open_if_ready();
    }

    /// Starts the journal when it is wanted and the container's places are known.
    fn open_if_ready(&mut self) {
        let (Some(began_ns), Some(places), Some(_)) = (self.began_ns, &self.places, &self.wanted) else { return };
        let Some((mut preface, out)) = self.wanted.take() else { return };
        let device = places.root_device();
        let belongs = |event: &Event| match &event.what {
            What::Use { inode, .. } => inode.device == device,
            _ => false,
        };
        // What others did on their own roots is not even counted.
        // Time begins with the first event of the container, or of a hook on its root.
        self.waiting.retain(|event| event.target != 0 || belongs(event));
        let first = self.waiting.iter().map(|event| event.time_ns).min();
        self.zero_ns = first.unwrap_or(began_ns).min(began_ns);
        preface.head.clock = clock::at(self.zero_ns);
        if !places.tells_pages() {
            preface.head.blind_spots = preface.head.blind_spots.and(BlindSpots::RANGES);
        }
        let start_up_us = self.at_us(self.exec_began(places, began_ns).unwrap_or(began_ns));
        let repositories = places.repositories();
        match Journal::new(out, &preface.head, preface.max_files) {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => {
                self.failed = Some(error);
                return;
            }
        }
        self.write(|journal| journal.phase(Phase::StartUp, start_up_us));
        self.write(|journal| repositories.iter().try_for_each(|repository| journal.repository(repository)));
        for event in std::mem::take(&mut self.waiting) {
            self.record(event);
        }
    }

    /// When the kernel began the first exec, by reading the program, which is before it is done: the last contents that the
    /// process used without having opened them. What waits may reach beyond that exec.
    fn exec_began(&self, places: &Places, began_ns: u64) -> Option<u64> {
        let path = |device, path| match places.find(device, path) {
            Place::Image { path, .. } => Some(path),
            _ => None,
        };
        let before = || self.waiting.iter().filter(|event| event.time_ns <= began_ns);
        let opened: HashSet<_> = before()
            .filter_map(|event| match &event.what {
                What::Use { path: used, inode, how: Use::Open, .. } => path(inode.device, used),
                _ => None,
            })
            .collect();
        let by_first = before().rev().filter(|event| event.host_process == self.first);
        let read = by_first.map_while(|event| match &event.what {
            What::Content { path: used, inode, .. } => {
                let path = path(inode.device, used)?;
                (!opened.contains(&path)).then_some(event.time_ns)
            }
            _ => None,
        });
        read.last()
    }

    fn record(&mut self, event: Event) -> Option<Advice> {
        let at_us = self.at_us(event.time_ns);
        match event.what {
            What::Use { path, inode, size, open_flags, how, written } => {
                let (path, upper) = self.inside(inode.device, &path)?;
                let written = written || upper;
                let used = Used { path, at_us, size, open_flags, how, written, process: event.process };
                self.write(|journal| journal.used(used, event.host_process));
            }
            What::Script { name } => {
                self.write(|journal| {
                    journal.script(at_us, event.host_process, name);
                    Ok(())
                });
            }
            What::Content { path, inode, size, how } => {
                let Some((path, written)) = self.inside(inode.device, &path) else {
                    return Some(Advice::Foreign(inode));
                };
                let id = content_id(inode);
                let used = Used { path, at_us, size, open_flags: 0, how, written, process: event.process };
                self.write(|journal| {
                    // What the container wrote itself has no parts that anybody could fetch.
                    if !written {
                        journal.content(id, &used.path)?;
                    }
                    journal.used(used, event.host_process)
                });
                return written.then_some(Advice::Foreign(inode));
            }
            What::Span { inode, first_page, pages } => {
                let start = first_page << self.page_shift;
                let end = start.saturating_add(u64::from(pages) << self.page_shift);
                let ranges = Ranges::new(vec![Range { start, end }], Vec::new());
                self.write(|journal| journal.ranges(content_id(inode), &ranges));
            }
            What::Absent { name, device, from } => {
                let path = self.absent_path(&name, device, &from)?;
                let lookup = Lookup { path, at_us, process: event.process };
                self.write(|journal| journal.absent(&lookup));
            }
            What::Listed { path, device } => {
                let (path, _) = self.inside(device, &path)?;
                let lookup = Lookup { path, at_us, process: event.process };
                self.write(|journal| journal.listed(&lookup));
            }
            What::Begin { .. } | What::Cgroup { .. } => {}
        }
        None
    }

    /// Where a file is in the container, and whether in its own layer. None if it is neither the image's nor CVMFS's;
    /// it is counted then.
    fn inside(&mut self, device: u32, path: &RootPath) -> Option<(RootPath, bool)> {
        let mut place = self.places.as_ref()?.find(device, path);
        if place == Place::Unknown {
            self.look_again();
            place = self.places.as_ref()?.find(device, path);
        }
        self.accept(place)
    }

    fn accept(&mut self, place: Place) -> Option<(RootPath, bool)> {
        match place {
            Place::Image { path, written } => Some((path, written)),
            Place::Repository(path) => Some((path, false)),
            Place::Outside(reason) => {
                self.leave_out(reason, 1);
                None
            }
            // Something that was mounted and unmounted between two looks, or files of the runtime itself.
            Place::Unknown => {
                self.leave_out(ExcludedReason::OtherFileSystem, 1);
                None
            }
        }
    }

    fn leave_out(&mut self, reason: ExcludedReason, files: u64) {
        if let Some(journal) = &mut self.journal {
            journal.excluded.add(reason, files);
        }
    }

    /// Something was mounted in the container: CVMFS repositories appear when they are first used.
    fn look_again(&mut self) {
        let (Some(mounts), Some(old)) = (self.container_mounts(), &self.places) else { return };
        let known = old.repositories();
        let Some(places) = mounts::own().ok().and_then(|host| Places::new(mounts, &host)) else { return };
        let places = match &self.root {
            Some((device, root)) => places.with_root(*device, root.clone()),
            None => places,
        };
        let new: Vec<_> = places.repositories().into_iter().filter(|found| !known.contains(found)).collect();
        self.places = Some(places);
        self.write(|journal| new.iter().try_for_each(|repository| journal.repository(repository)));
    }

    /// The path in the container of something that is not there.
    fn absent_path(&mut self, name: &[u8], device: u32, from: &RootPath) -> Option<RootPath> {
        let (from, _) = self.inside(device, from)?;
        let path = RootPath::normalize(from.as_bytes(), name)?;
        let place = self.places.as_ref()?.named(path);
        self.accept(place).map(|(path, _)| path)
    }

    fn write(&mut self, write: impl FnOnce(&mut Journal) -> Result<(), WriteError>) {
        let Some(journal) = self.journal.as_mut().filter(|_| self.failed.is_none()) else { return };
        if let Err(error) = write(journal) {
            self.failed = Some(error);
        }
    }
}

/// How a trace calls the content of an inode.
pub(crate) fn content_id(inode: Inode) -> u64 {
    // Two numbers in one, as good as without collision: the factor is that of Fibonacci hashing.
    inode.number ^ u64::from(inode.device).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
