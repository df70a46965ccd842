//! `--until-line`: a line in the container's log.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use regex::Regex;
use tracer_ebpf::cri::log::Lines;

/// Follows a log until a line matches.
pub(crate) struct LineSeen {
    regex: Regex,
    path: PathBuf,
    file: Option<File>,
    lines: Lines,
}

impl LineSeen {
    pub(crate) fn new(regex: &Regex, path: &Path) -> Self {
        Self { regex: regex.clone(), path: path.to_owned(), file: None, lines: Lines::default() }
    }

    /// Whether a line that was added since the last call matches. A log that does not exist yet is empty.
    pub(crate) fn check(&mut self) -> Result<bool> {
        let context = || format!("cannot read the container's log {}", self.path.display());
        let file = match &mut self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(file) => self.file.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error).with_context(context),
            },
        };
        let mut buffer = [0; 16 << 10];
        loop {
            match file.read(&mut buffer).with_context(context)? {
                0 => return Ok(false),
                count if self.lines.push(&buffer[..count]).iter().any(|line| self.regex.is_match(line)) => {
                    return Ok(true);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use super::*;

    #[test]
    fn only_complete_lines_match() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut line = LineSeen::new(&Regex::new("^ready on [0-9]+$").unwrap(), &path);
        assert!(!line.check().unwrap(), "no log yet");
        let mut log = File::create(&path).unwrap();
        let steps = [
            ("t stdout F getting ready on 80\n", false),
            ("t stderr P ready \nt stdout F on 80\n", false),
            ("t stderr F on 8", false),
            ("0\n", true),
            ("t stdout F more\n", false),
        ];
        for (added, seen) in steps {
            log.write_all(added.as_bytes()).unwrap();
            assert_eq!(line.check().unwrap(), seen, "{added:?}");
        }
    }
}
