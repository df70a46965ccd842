//! Log files of containers: lines of `<time> <stdout|stderr> <F|P>[:<tag>...] <text>`, where `P` marks the pieces of a
//! long line but the last.

/// What a container wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To standard output.
    pub stdout: String,
    /// To standard error.
    pub stderr: String,
}

/// Takes a log apart. Lines that are none of a log are left out.
pub fn parse(log: &str) -> Output {
    let mut output = Output::default();
    for entry in log.lines().filter_map(Entry::parse) {
        let to = match entry.stream {
            Stream::Out => &mut output.stdout,
            Stream::Err => &mut output.stderr,
        };
        to.push_str(entry.text);
        if entry.ends {
            to.push('\n');
        }
    }
    output
}

/// Takes a log apart while it grows, into whole lines. Of a line longer than [`Lines::MAX`] the rest is left out.
#[derive(Debug, Default)]
pub struct Lines {
    /// An entry whose end is not there yet.
    entry: Vec<u8>,
    /// Lines whose ends are not there yet.
    out: String,
    err: String,
}

impl Lines {
    /// A line that is as long gets no more pieces, and no piece is longer. containerd cuts lines into pieces of 16 KiB.
    pub const MAX: usize = 64 << 10;

    /// Takes the bytes that were added to the log; the lines that end in them, of both streams.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = Self::MAX - self.entry.len();
            self.entry.extend_from_slice(&piece[..piece.len().min(room)]);
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
        entry.ends.then(|| std::mem::take(line))
    }
}

enum Stream {
    Out,
    Err,
}

/// One line of a log.
struct Entry<'a> {
    stream: Stream,
    /// Whether the container's line ends here.
    ends: bool,
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
        let ends = fields.next()?.split(':').next() == Some("F");
        Some(Self { stream, ends, text: fields.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines() {
        let log = "t stdout F one two\nt stderr F error\nt stdout P half \nt stdout F whole\nt stdout F \nnonsense\n\n";
        assert_eq!(parse(log), Output { stdout: "one two\nhalf whole\n\n".to_owned(), stderr: "error\n".to_owned() });
    }

    #[test]
    fn a_log_that_grows_by_any_pieces_gives_the_same_lines() {
        let log = "t stdout F one\nt stdout P half \nt stderr F \u{fc}\nt stdout F whole\nnonsense\n\nt stdout F open";
        for size in 1..log.len() {
            let mut lines = Lines::default();
            let found: Vec<_> = log.as_bytes().chunks(size).flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(found, ["one", "\u{fc}", "half whole"], "by {size} bytes");
            assert_eq!(lines.push(b" no more\n"), ["open no more"], "by {size} bytes");
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
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
