//! Parses the log files of containers in the CRI's format: entries `<time> <stdout|stderr> <F|P>[:<tag>...] <text>`. `P` marks
//! a partial entry: the line continues in the next entry of that stream.

/// The output of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOutput {
    /// Everything written to standard output.
    pub stdout: String,
    /// Everything written to standard error.
    pub stderr: String,
}

/// Parses a complete log. Skips lines that are not in the format.
pub fn parse(log: &str) -> LogOutput {
    let mut output = LogOutput::default();
    for entry in log.lines().filter_map(Entry::parse) {
        let to = match entry.stream {
            Stream::Out => &mut output.stdout,
            Stream::Err => &mut output.stderr,
        };
        to.push_str(entry.text);
        if entry.ends_line {
            to.push('\n');
        }
    }
    output
}

/// Parses a growing log into the container's lines. Truncates lines at about [`Lines::MAX`] bytes.
#[derive(Debug, Default)]
pub struct Lines {
    /// The start of an incomplete entry.
    entry: Vec<u8>,
    /// The start of an incomplete line of standard output.
    out: String,
    /// The start of an incomplete line of standard error.
    err: String,
}

impl Lines {
    /// Most bytes of an entry, and the length from which a line is no longer extended. containerd's entries have at most 16 KiB.
    pub const MAX: usize = 64 << 10;

    /// Parses bytes that were appended to the log. Returns the lines that they complete, of both streams.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let free = Self::MAX - self.entry.len();
            self.entry.extend_from_slice(&piece[..piece.len().min(free)]);
            if piece.ends_with(b"\n") {
                let entry = std::mem::take(&mut self.entry);
                lines.extend(self.add(String::from_utf8_lossy(&entry).trim_end_matches('\n')));
            }
        }
        lines
    }

    fn add(&mut self, entry: &str) -> Option<String> {
        let entry = Entry::parse(entry)?;
        let line = match entry.stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        if line.len() < Self::MAX {
            line.push_str(entry.text);
        }
        entry.ends_line.then(|| std::mem::take(line))
    }
}

enum Stream {
    Out,
    Err,
}

/// One entry of a log.
struct Entry<'a> {
    stream: Stream,
    /// Whether the container's line ends with this entry.
    ends_line: bool,
    text: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(4, ' ').skip(1);
        let stream = match fields.next()? {
            "stdout" => Stream::Out,
            "stderr" => Stream::Err,
            _ => return None,
        };
        let ends_line = fields.next()?.split(':').next() == Some("F");
        Some(Self { stream, ends_line, text: fields.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_entries_are_joined_to_lines() {
        let log = "t stdout F one two\nt stderr F error\nt stdout P half \nt stdout F whole\nt stdout F \nnonsense\n\n";
        assert_eq!(
            parse(log),
            LogOutput { stdout: "one two\nhalf whole\n\n".to_owned(), stderr: "error\n".to_owned() }
        );
    }

    #[test]
    fn a_log_appended_in_any_pieces_gives_the_same_lines() {
        let log = "t stdout F one\nt stdout P half \nt stderr F \u{fc}\nt stdout F whole\nnonsense\n\nt stdout F open";
        for size in 1..log.len() {
            let mut lines = Lines::default();
            let found: Vec<_> = log.as_bytes().chunks(size).flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(found, ["one", "\u{fc}", "half whole"], "by {size} bytes");
            assert_eq!(lines.push(b" no more\n"), ["open no more"], "by {size} bytes");
        }
    }

    #[test]
    fn an_endless_line_is_truncated() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(lines.push(&[b"t stdout P ", [b'x'; 16 << 10].as_slice(), b"\n"].concat()).is_empty());
        }
        let found = lines.push("t stdout F \u{fc}\nt stderr F next\n".as_bytes());
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [Lines::MAX, 4]);
        assert!(lines.push(&vec![b'x'; 10 * Lines::MAX]).is_empty());
        assert_eq!(lines.entry.len(), Lines::MAX);
        assert_eq!(lines.push(b"\nt stdout F after\n"), ["after"]);
    }
}
