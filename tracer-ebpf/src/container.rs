//! One followed container: from the events of its set-up to its trace.
//!
//! Events are held back until the container's root and mounts are known and a trace has been requested. Then each event
//! is either a use of the image or of CVMFS, which goes into the journal, or is excluded and counted.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bundles::path::RootPath;
use bundles::phase::Phase;
use bundles::trace::{BlindSpots, ExcludedReason, Head, Lookup, LossCause, Losses, Range, Ranges, Use, WriteError};

use crate::clock;
use crate::event::{Event, EventKind, Inode};
use crate::journal::{Journal, Output, PathUse};
use crate::mounts::{self, Mount};
use crate::path_map::{Location, PathMap};

/// Most events held back for one container. Set-up by a runtime causes some hundreds; the rest are opens by other
/// containers' processes on their own overlays meanwhile.
const MAX_HELD_EVENTS: usize = 1 << 16;

/// How to write a trace.
#[derive(Debug, Clone)]
pub(crate) struct TraceSettings {
    /// The head of the trace. Its clock is filled in when time zero is known.
    pub(crate) head: Head,
    pub(crate) max_files: usize,
    /// log2 of the page size.
    pub(crate) page_shift: u32,
}

/// Feedback for the kernel part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Stop marking the pages of this content: it does not belong to the image.
    IgnoreContent(Inode),
}

/// The state of one followed container.
pub(crate) struct TracedContainer {
    /// The cgroup directory, which lists the container's processes.
    cgroup: PathBuf,
    /// The host pid of the process that did the first exec.
    first_process: u32,
    /// A requested trace that has not been opened, because the container's root is not known yet.
    requested_trace: Option<(TraceSettings, Output)>,
    held_events: Vec<Event>,
    root: Option<(u32, PathBuf)>,
    pub(crate) first_exec_ns: Option<u64>,
    path_map: Option<PathMap>,
    /// Mounts read during set-up, in case the container ends before they are read after its first exec.
    set_up_mounts: Option<Vec<Mount>>,
    /// The trace's time zero.
    zero_ns: u64,
    journal: Option<Journal>,
    page_shift: u32,
    losses: Losses,
    /// [`crate::reader::Shared::unattributed_losses`] when the container was added, which its trace must not count.
    pub(crate) losses_before: u64,
    /// The first error of writing the trace. Nothing is written after it.
    failed: Option<WriteError>,
}

impl TracedContainer {
    /// A container that has not started yet.
    pub(crate) fn new(cgroup: PathBuf) -> Self {
        Self {
            cgroup,
            first_process: 0,
            requested_trace: None,
            held_events: Vec::new(),
            root: None,
            first_exec_ns: None,
            path_map: None,
            set_up_mounts: None,
            zero_ns: 0,
            journal: None,
            page_shift: 12,
            losses: Losses::default(),
            losses_before: 0,
            failed: None,
        }
    }

    /// A container that is already running, with its mounts. Its trace's time zero is `now_ns`.
    pub(crate) fn running(cgroup: PathBuf, path_map: PathMap, now_ns: u64) -> Self {
        Self { path_map: Some(path_map), first_exec_ns: Some(now_ns), zero_ns: now_ns, ..Self::new(cgroup) }
    }

    /// Requests a trace, which includes the events held back so far.
    pub(crate) fn request_trace(&mut self, settings: TraceSettings, out: Output) {
        self.page_shift = settings.page_shift;
        self.requested_trace = Some((settings, out));
        self.open_trace_if_ready();
    }

    /// Whether the first exec is still to come.
    pub(crate) fn is_in_set_up(&self) -> bool {
        self.first_exec_ns.is_none()
    }

    /// Whether the trace cannot be written.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The number of different files used so far.
    pub(crate) fn files(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::files)
    }

    /// Processes one event of the container, or, during set-up, of an outside process.
    pub(crate) fn handle(&mut self, event: Event) -> Option<Advice> {
        if let EventKind::FirstExec { device, root } = &event.kind {
            self.set_first_exec(event.time_ns, event.host_process, *device, root);
            return None;
        }
        // Outside processes matter only while they prepare the root (OCI hooks).
        if event.target == 0 && !self.is_in_set_up() {
            return None;
        }
        if self.journal.is_some() {
            return self.record(event);
        }
        if self.held_events.len() < MAX_HELD_EVENTS {
            self.held_events.push(event);
        } else {
            self.losses.add(LossCause::BufferFull, 1);
        }
        None
    }

    /// Periodic work: reads the mounts during set-up, and flushes the trace.
    pub(crate) fn tick(&mut self) {
        if self.is_in_set_up()
            && let Some(mounts) = self.container_mounts()
        {
            self.set_up_mounts = Some(mounts);
        }
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.flush_if_due()
        {
            self.failed.get_or_insert(error);
        }
    }

    /// Marks the end of the start-up phase.
    pub(crate) fn mark_started_up(&mut self, time_ns: u64) {
        let at_us = self.at_us(time_ns);
        self.write(|journal| journal.phase(Phase::Main, at_us));
    }

    /// Microseconds since the trace's time zero.
    pub(crate) fn at_us(&self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(self.zero_ns) / 1000
    }

    /// Returns the unfinished journal; None if the container never started.
    pub(crate) fn close(self) -> Result<Option<(Journal, Losses)>, WriteError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.journal.map(|journal| (journal, self.losses))),
        }
    }

    /// The mounts of a process of the container, as soon as one has the container's root.
    pub(crate) fn container_mounts(&self) -> Option<Vec<Mount>> {
        let own_root = mounts::covering(&mounts::own_mounts().ok()?, Path::new("/"))?.clone();
        let processes = fs::read_to_string(self.cgroup.join("cgroup.procs")).ok()?;
        let mut mounts = processes.lines().filter_map(|line| mounts::mounts_of_process(line.parse().ok()?).ok());
        mounts.find(|mounts| {
            let root = mounts::covering(mounts, Path::new("/"));
            root.is_some_and(|root| (root.device, &root.root) != (own_root.device, &own_root.root))
        })
    }

    /// Notes the container's first exec. The kernel part reports it twice, in case one report is lost: by an event, and in
    /// the map `targets`.
    pub(crate) fn set_first_exec(&mut self, time_ns: u64, process: u32, device: u32, root: &RootPath) {
        if self.first_exec_ns.is_some() {
            return;
        }
        self.first_exec_ns = Some(time_ns);
        self.first_process = process;
        let root = PathBuf::from(OsStr::from_bytes(root.as_bytes()));
        let host = mounts::own_mounts().unwrap_or_default();
        let has_root = |mounts: &Vec<Mount>| mounts.iter().any(|mount| mount.device == device);
        // That process, or all of the container, may have ended by now.
        let of_process = mounts::mounts_of_process(process).ok().filter(has_root);
        let mounts = of_process
            .or_else(|| self.container_mounts().filter(has_root))
            .or_else(|| self.set_up_mounts.take().filter(has_root));
        self.path_map = Some(match mounts.and_then(|mounts| PathMap::new(mounts, &host)) {
            Some(path_map) => path_map.with_root(device, root.clone()),
            None => PathMap::from_host_mounts(device, root.clone(), &host),
        });
        self.root = Some((device, root));
        self.set_up_mounts = None;
        self.open_trace_if_ready();
    }

    /// Opens the trace once it has been requested and the container's root is known, and records the held events.
    fn open_trace_if_ready(&mut self) {
        let (Some(first_exec_ns), Some(path_map)) = (self.first_exec_ns, &self.path_map) else { return };
        let Some((mut settings, out)) = self.requested_trace.take() else { return };
        let device = path_map.root_device();
        let is_on_root = |event: &Event| match &event.kind {
            EventKind::Use { inode, .. } => inode.device == device,
            _ => false,
        };
        // Uses by outside processes on other roots are not even counted as excluded.
        self.held_events.retain(|event| event.target != 0 || is_on_root(event));
        // Time zero is the first event of the container, or of a hook on its root.
        let first = self.held_events.iter().map(|event| event.time_ns).min();
        self.zero_ns = first.unwrap_or(first_exec_ns).min(first_exec_ns);
        settings.head.clock = clock::trace_clock(self.zero_ns);
        if !path_map.sees_page_reads() {
            settings.head.blind_spots = settings.head.blind_spots.and(BlindSpots::RANGES);
        }
        let start_up_us = self.at_us(self.exec_began(path_map, first_exec_ns).unwrap_or(first_exec_ns));
        let repositories = path_map.repositories();
        match Journal::new(out, &settings.head, settings.max_files) {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => {
                self.failed = Some(error);
                return;
            }
        }
        self.write(|journal| journal.phase(Phase::StartUp, start_up_us));
        self.write(|journal| repositories.iter().try_for_each(|repository| journal.repository(repository)));
        for event in std::mem::take(&mut self.held_events) {
            self.record(event);
        }
    }

    /// When the kernel began the first exec. The exec is reported when it is complete, but it begins with the kernel reading
    /// the program: those are the last contents that the process used before the report without having opened them.
    fn exec_began(&self, path_map: &PathMap, first_exec_ns: u64) -> Option<u64> {
        let image_path = |device, path| match path_map.locate(device, path) {
            Location::Image { path, .. } => Some(path),
            _ => None,
        };
        let before = || self.held_events.iter().filter(|event| event.time_ns <= first_exec_ns);
        let opened: HashSet<_> = before()
            .filter_map(|event| match &event.kind {
                EventKind::Use { path, inode, how: Use::Open, .. } => image_path(inode.device, path),
                _ => None,
            })
            .collect();
        let by_first_process = before().rev().filter(|event| event.host_process == self.first_process);
        let reads = by_first_process.map_while(|event| match &event.kind {
            EventKind::Content { path, inode, .. } => {
                let path = image_path(inode.device, path)?;
                (!opened.contains(&path)).then_some(event.time_ns)
            }
            _ => None,
        });
        reads.last()
    }

    fn record(&mut self, event: Event) -> Option<Advice> {
        let at_us = self.at_us(event.time_ns);
        match event.kind {
            EventKind::Use { path, inode, size, open_flags, how, written } => {
                let (path, on_upper) = self.locate(inode.device, &path)?;
                let written = written || on_upper;
                let path_use = PathUse { path, at_us, size, open_flags, how, written, process: event.process };
                self.write(|journal| journal.add_use(path_use, event.host_process));
            }
            EventKind::Script { name } => {
                self.write(|journal| {
                    journal.expect_script(at_us, event.host_process, name);
                    Ok(())
                });
            }
            EventKind::Content { path, inode, size, how } => {
                let Some((path, written)) = self.locate(inode.device, &path) else {
                    return Some(Advice::IgnoreContent(inode));
                };
                let id = content_id(inode);
                let path_use = PathUse { path, at_us, size, open_flags: 0, how, written, process: event.process };
                self.write(|journal| {
                    // Ranges of a file that the container wrote are useless: they cannot be prefetched.
                    if !written {
                        journal.content(id, &path_use.path)?;
                    }
                    journal.add_use(path_use, event.host_process)
                });
                return written.then_some(Advice::IgnoreContent(inode));
            }
            EventKind::Span { inode, first_page, pages } => {
                let start = first_page << self.page_shift;
                let end = start.saturating_add(u64::from(pages) << self.page_shift);
                let ranges = Ranges::new(vec![Range { start, end }], Vec::new());
                self.write(|journal| journal.ranges(content_id(inode), &ranges));
            }
            EventKind::Absent { name, device, from } => {
                let path = self.locate_absent(&name, device, &from)?;
                let lookup = Lookup { path, at_us, process: event.process };
                self.write(|journal| journal.absent(&lookup));
            }
            EventKind::Listed { path, device } => {
                let (path, _) = self.locate(device, &path)?;
                let lookup = Lookup { path, at_us, process: event.process };
                self.write(|journal| journal.listed(&lookup));
            }
            EventKind::FirstExec { .. } | EventKind::Cgroup { .. } => {}
        }
        None
    }

    /// Converts a file's path into its path in the container, and says whether it is on the upper layer. Counts and drops a
    /// file that belongs neither to the image nor to CVMFS.
    fn locate(&mut self, device: u32, path: &RootPath) -> Option<(RootPath, bool)> {
        let mut location = self.path_map.as_ref()?.locate(device, path);
        if location == Location::Unknown {
            self.refresh_mounts();
            location = self.path_map.as_ref()?.locate(device, path);
        }
        self.accept(location)
    }

    fn accept(&mut self, location: Location) -> Option<(RootPath, bool)> {
        match location {
            Location::Image { path, written } => Some((path, written)),
            Location::Repository(path) => Some((path, false)),
            Location::Outside(reason) => {
                self.exclude(reason, 1);
                None
            }
            // On a mount that came and went between two reads of mountinfo, or one that only the runtime sees.
            Location::Unknown => {
                self.exclude(ExcludedReason::OtherFileSystem, 1);
                None
            }
        }
    }

    fn exclude(&mut self, reason: ExcludedReason, files: u64) {
        if let Some(journal) = &mut self.journal {
            journal.excluded.add(reason, files);
        }
    }

    /// Reads the container's mounts again: autofs mounts CVMFS repositories when they are first used.
    fn refresh_mounts(&mut self) {
        let (Some(mounts), Some(old)) = (self.container_mounts(), &self.path_map) else { return };
        let known = old.repositories();
        let Some(path_map) = mounts::own_mounts().ok().and_then(|host| PathMap::new(mounts, &host)) else { return };
        let path_map = match &self.root {
            Some((device, root)) => path_map.with_root(*device, root.clone()),
            None => path_map,
        };
        let new: Vec<_> = path_map.repositories().into_iter().filter(|found| !known.contains(found)).collect();
        self.path_map = Some(path_map);
        self.write(|journal| new.iter().try_for_each(|repository| journal.repository(repository)));
    }

    /// The path in the container of a path that does not exist.
    fn locate_absent(&mut self, name: &[u8], device: u32, from: &RootPath) -> Option<RootPath> {
        let (from, _) = self.locate(device, from)?;
        let path = RootPath::normalize(from.as_bytes(), name)?;
        let location = self.path_map.as_ref()?.locate_container_path(path);
        self.accept(location).map(|(path, _)| path)
    }

    fn write(&mut self, write: impl FnOnce(&mut Journal) -> Result<(), WriteError>) {
        let Some(journal) = self.journal.as_mut().filter(|_| self.failed.is_none()) else { return };
        if let Err(error) = write(journal) {
            self.failed = Some(error);
        }
    }
}

/// The id by which a trace relates ranges to the content of an inode.
pub(crate) fn content_id(inode: Inode) -> u64 {
    // Fibonacci hashing spreads the devices, so that collisions are unlikely.
    inode.number ^ u64::from(inode.device).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
