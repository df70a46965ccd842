//! `strace -f`, best as `strace -f -y -ttt -s 4096 -o FILE` inside the container's root.
//!
//! Successful calls of open, openat, openat2, creat, execve and execveat are uses; chdir, fchdir and the calls that create processes are
//! followed for the directory of relative paths. With `-y`, the result of an open names the file itself (`= 3</usr/lib/libc.so.6>`), which
//! is then used; without it, paths are as the program named them. Calls interrupted by lines of other processes are joined. Source:
//! strace(1), and the output of strace 6.1.

mod line;

use std::collections::HashMap;

use super::{FirstUses, ImportError, Imported, Source, used};
use crate::path::RootPath;
use crate::trace::{BlindSpots, LossCause, Use};
use line::{Call, Line, Time};

const O_DIRECTORY: u32 = 0o200_000;
const O_PATH: u32 = 0o10_000_000;

/// Names of open flags, with their values on x86-64.
const FLAGS: [(&str, u32); 16] = [
    ("O_WRONLY", 1),
    ("O_RDWR", 2),
    ("O_CREAT", 0o100),
    ("O_EXCL", 0o200),
    ("O_NOCTTY", 0o400),
    ("O_TRUNC", 0o1000),
    ("O_APPEND", 0o2000),
    ("O_NONBLOCK", 0o4000),
    ("O_DSYNC", 0o10_000),
    ("O_DIRECT", 0o40_000),
    ("O_LARGEFILE", 0o100_000),
    ("O_DIRECTORY", O_DIRECTORY),
    ("O_NOFOLLOW", 0o400_000),
    ("O_NOATIME", 0o1_000_000),
    ("O_CLOEXEC", 0o2_000_000),
    ("O_PATH", O_PATH),
];

pub(super) fn parse(bytes: &[u8]) -> Result<Imported, ImportError> {
    let mut parser = Parser::default();
    for line in bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        parser.line(line)?;
    }
    Ok(parser.finish())
}

/// The effect of a call, as far as it matters here.
enum Effect {
    Used { path: RootPath, flags: u32, how: Use },
    Unresolved,
    Nothing,
}

#[derive(Default)]
struct Parser {
    uses: FirstUses,
    /// First halves of unfinished calls, by process.
    waiting: HashMap<u64, (Option<Time>, Vec<u8>)>,
    /// Known working directories, by process.
    directories: HashMap<u64, Vec<u8>>,
    /// Whether the first call is the exec of the program.
    started: Option<bool>,
    first: Option<Time>,
    last_us: u64,
    unresolved: u64,
    malformed: u64,
    by_name: bool,
    timeless: bool,
}

impl Parser {
    fn line(&mut self, text: &[u8]) -> Result<(), ImportError> {
        let (process, time, line) = line::parse(text);
        match line {
            Line::Whole(call) => self.call(process, time, call),
            Line::Begun(part) => {
                self.waiting.insert(process, (time, part.to_vec()));
                Ok(())
            }
            Line::Resumed(rest) => {
                let Some((began, mut whole)) = self.waiting.remove(&process) else {
                    self.malformed += 1;
                    return Ok(());
                };
                whole.extend_from_slice(rest);
                self.call(process, began, &whole)
            }
            Line::Note => Ok(()),
            Line::Unknown => {
                self.malformed += 1;
                Ok(())
            }
        }
    }

    fn call(&mut self, process: u64, time: Option<Time>, text: &[u8]) -> Result<(), ImportError> {
        let Some(call) = Call::parse(text) else {
            self.malformed += 1;
            return Ok(());
        };
        self.started.get_or_insert(call.name == b"execve" && call.succeeded());
        if let (Some(time), None) = (time, self.first) {
            self.first = Some(time);
        }
        let at = time.zip(self.first).map(|(time, first)| time.since(first));
        self.last_us = self.last_us.max(at.unwrap_or(0));
        if !call.succeeded() {
            return Ok(());
        }
        match self.effect(process, &call) {
            Effect::Used { path, flags, how } => {
                self.timeless |= at.is_none();
                let at_us = at.unwrap_or(self.uses.files.len() as u64);
                self.uses.add(used(path, at_us, 0, flags, how))?;
            }
            Effect::Unresolved => self.unresolved += 1,
            Effect::Nothing => {}
        }
        Ok(())
    }

    fn effect(&mut self, process: u64, call: &Call<'_>) -> Effect {
        let arg = |index: usize| call.args.get(index).copied().unwrap_or_default();
        match call.name {
            b"open" => self.opened(process, call, b"AT_FDCWD", arg(0), flags(arg(1))),
            b"creat" => self.opened(process, call, b"AT_FDCWD", arg(0), flags(b"O_WRONLY|O_CREAT|O_TRUNC")),
            b"openat" | b"openat2" => self.opened(process, call, arg(0), arg(1), flags(arg(2))),
            b"execve" | b"execveat" => {
                let (directory, path) =
                    if call.name == b"execve" { (&b"AT_FDCWD"[..], arg(0)) } else { (arg(0), arg(1)) };
                self.by_name = true;
                match self.named_path(process, directory, path) {
                    Some(path) => Effect::Used { path, flags: 0, how: Use::Exec },
                    None => Effect::Unresolved,
                }
            }
            b"chdir" | b"fchdir" => {
                let path = match call.name {
                    b"chdir" => self.named_path(process, b"AT_FDCWD", arg(0)),
                    _ => line::annotation(arg(0)).and_then(|path| RootPath::normalize(b"/", &path)),
                };
                match path {
                    Some(path) => drop(self.directories.insert(process, path.as_bytes().to_vec())),
                    None => drop(self.directories.remove(&process)),
                }
                Effect::Nothing
            }
            b"clone" | b"clone3" | b"fork" | b"vfork" => {
                if let (Some(child), Some(directory)) = (call.number(), self.directories.get(&process).cloned()) {
                    // The child's own lines may come first.
                    self.directories.entry(child).or_insert(directory);
                }
                Effect::Nothing
            }
            _ => Effect::Nothing,
        }
    }

    fn opened(&mut self, process: u64, call: &Call<'_>, directory: &[u8], path: &[u8], flags: u32) -> Effect {
        if flags & (O_DIRECTORY | O_PATH) != 0 {
            return Effect::Nothing;
        }
        let opened = |path| Effect::Used { path, flags, how: Use::Open };
        match line::annotation(call.result) {
            Some(named) if named.starts_with(b"/") => {
                RootPath::normalize(b"/", &named).map_or(Effect::Unresolved, opened)
            }
            // A pipe or a socket.
            Some(_) => Effect::Nothing,
            None => {
                self.by_name = true;
                self.named_path(process, directory, path).map_or(Effect::Unresolved, opened)
            }
        }
    }

    /// The path that a program named, relative to the directory of the call's first argument.
    fn named_path(&self, process: u64, directory: &[u8], path: &[u8]) -> Option<RootPath> {
        let path = line::string(path)?;
        if path.starts_with(b"/") {
            return RootPath::normalize(b"/", &path);
        }
        let named = line::annotation(directory).filter(|named| named.starts_with(b"/"));
        let own = || self.directories.get(&process).filter(|_| directory.starts_with(b"AT_FDCWD")).cloned();
        RootPath::normalize(&named.or_else(own)?, &path).filter(|_| !path.is_empty())
    }

    fn finish(self) -> Imported {
        let mut blind_spots =
            BlindSpots::SIZES.and(BlindSpots::KERNEL_OPENS).and(BlindSpots::UNOPENED).and(BlindSpots::IO_URING);
        // The recording begins with the container's program, or later.
        blind_spots = blind_spots.and(BlindSpots::SET_UP);
        for (is, what) in [
            (self.started != Some(true), BlindSpots::START),
            (self.timeless, BlindSpots::TIMES),
            (self.by_name, BlindSpots::LINKS),
        ] {
            blind_spots = if is { blind_spots.and(what) } else { blind_spots };
        }
        let mut imported = Imported::new(Source::Strace, blind_spots);
        imported.losses.add(LossCause::Unresolved, self.unresolved);
        // Unfinished calls are of killed processes, and opened nothing that we know of.
        imported.losses.add(LossCause::Malformed, self.malformed);
        imported.started = self.first.map_or(0, Time::since_epoch);
        imported.files = self.uses.files;
        imported.files.sort_by_key(|file| file.at_us);
        Imported { duration_us: self.last_us, ..imported }
    }
}

/// The flags named in `text`, which may be a structure with flags.
fn flags(text: &[u8]) -> u32 {
    let words = text.split(|b| !b.is_ascii_alphanumeric() && *b != b'_');
    let known = |word: &[u8]| FLAGS.iter().find(|(name, _)| name.as_bytes() == word).map_or(0, |(_, flag)| *flag);
    words.fold(0, |all, word| all | known(word))
}
