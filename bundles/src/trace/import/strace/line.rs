//! Parsing a line of strace's output.

/// The time of a call, in microseconds of one of strace's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// `-ttt`: since 1970.
    Epoch(u64),
    /// `-t`, `-tt`: since midnight.
    Day(u64),
}

const DAY: u64 = 86_400_000_000;

impl Time {
    /// Microseconds since `first`. A time of day is assumed to have passed midnight at most once.
    pub(super) fn since(self, first: Self) -> u64 {
        match (self, first) {
            (Self::Epoch(now), Self::Epoch(first)) => now.saturating_sub(first),
            (Self::Day(now), Self::Day(first)) if now < first => now + DAY - first,
            (Self::Day(now), Self::Day(first)) => now - first,
            _ => 0,
        }
    }

    /// Seconds since 1970; 0 if unknown.
    pub(super) fn since_epoch(self) -> u64 {
        if let Self::Epoch(us) = self { us / 1_000_000 } else { 0 }
    }
}

/// The content of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A call with its result.
    Whole(&'a [u8]),
    /// The first half of an interrupted call.
    Begun(&'a [u8]),
    /// The second half of an interrupted call.
    Resumed(&'a [u8]),
    /// A signal, an exit or a message of strace itself.
    Note,
    /// Anything else.
    Unknown,
}

/// Process (0 if not given), time and content of a line.
pub(super) fn parse(text: &[u8]) -> (u64, Option<Time>, Line<'_>) {
    let mut rest = text.trim_ascii();
    let mut process = 0;
    let mut at = None;
    if let Some(bracket) = rest.strip_prefix(b"[pid")
        && let Some(end) = bracket.iter().position(|b| *b == b']')
    {
        process = number(bracket[..end].trim_ascii()).unwrap_or(0);
        rest = bracket[end + 1..].trim_ascii_start();
    }
    for _ in 0..2 {
        let (word, behind) = rest.split_at(rest.iter().position(|b| *b == b' ').unwrap_or(rest.len()));
        match (number(word), time(word)) {
            (Some(id), _) => process = id,
            (None, Some(time)) => at = Some(time),
            (None, None) => break,
        }
        rest = behind.trim_ascii_start();
    }
    (process, at, content(rest))
}

fn content(rest: &[u8]) -> Line<'_> {
    if [&b"+++ "[..], b"--- ", b"strace: "].iter().any(|note| rest.starts_with(note)) {
        return Line::Note;
    }
    if let Some(resumed) = rest.strip_prefix(b"<... ") {
        const END: &[u8] = b" resumed>";
        let end = resumed.windows(END.len()).position(|window| window == END);
        return end.map_or(Line::Unknown, |end| Line::Resumed(&resumed[end + END.len()..]));
    }
    if let Some(begun) = rest.strip_suffix(b"<unfinished ...>") {
        return Line::Begun(begun.trim_ascii_end());
    }
    if rest.first().is_some_and(u8::is_ascii_lowercase) { Line::Whole(rest) } else { Line::Unknown }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let us: u64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    if let [hours, minutes, seconds] = whole.split(':').collect::<Vec<_>>()[..] {
        let [h, m, s] = [(hours, 24), (minutes, 60), (seconds, 61)]
            .map(|(text, limit)| text.parse::<u64>().ok().filter(|n| *n < limit));
        return Some(Time::Day((h? * 3600 + m? * 60 + s?) * 1_000_000 + us));
    }
    // Small numbers are the differences of `-r`, which mean nothing without the lines between.
    let seconds: u64 = whole.parse().ok().filter(|s| (100_000_000..100_000_000_000).contains(s))?;
    Some(Time::Epoch(seconds * 1_000_000 + us))
}

/// A system call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) name: &'a [u8],
    pub(super) args: Vec<&'a [u8]>,
    /// The text after `=`.
    pub(super) result: &'a [u8],
}

impl<'a> Call<'a> {
    /// Parses `name(argument, ...) = result`; `None` for anything else.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let open = text.iter().position(|b| *b == b'(')?;
        let name = &text[..open];
        if !name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
            return None;
        }
        let mut args = Vec::new();
        let mut from = open + 1;
        let mut depth = 0usize;
        let mut at = open + 1;
        loop {
            match *text.get(at)? {
                b'"' => at = closing(text, at + 1, b'"')?,
                // `3</path>`, but not `1<<4`.
                b'<' if text.get(at + 1) == Some(&b'<') => at += 1,
                b'<' => at = closing(text, at + 1, b'>')?,
                b'(' | b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.checked_sub(1)?,
                b')' if depth > 0 => depth -= 1,
                byte @ (b')' | b',') if depth == 0 => {
                    args.push(text[from..at].trim_ascii());
                    from = at + 1;
                    if byte == b')' {
                        break;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        let result = text[from..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
        Some(Self { name, args, result })
    }

    /// Whether the call has a result that is not an error.
    pub(super) fn succeeded(&self) -> bool {
        self.result.first().is_some_and(u8::is_ascii_digit)
    }

    /// The result as a number.
    pub(super) fn number(&self) -> Option<u64> {
        let digits = self.result.iter().position(|b| !b.is_ascii_digit()).unwrap_or(self.result.len());
        number(&self.result[..digits])
    }
}

/// The position of the first unescaped `end` from `at` on.
fn closing(text: &[u8], mut at: usize, end: u8) -> Option<usize> {
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            byte if byte == end => return Some(at),
            _ => at += 1,
        }
    }
}

/// The content of a quoted argument; `None` if it is not quoted, or was truncated (`"..."...`).
pub(super) fn string(arg: &[u8]) -> Option<Vec<u8>> {
    let inner = arg.strip_prefix(b"\"")?;
    let end = closing(inner, 0, b'"')?;
    (end + 1 == inner.len()).then(|| unescape(&inner[..end]))
}

/// The annotation that `-y` writes after a descriptor: `3</usr/lib>`.
pub(super) fn annotation(text: &[u8]) -> Option<Vec<u8>> {
    let open = text.iter().position(|b| *b == b'<')?;
    let end = closing(text, open + 1, b'>')?;
    // With `-yy`, devices have their numbers after the path, in brackets of their own.
    let inner = &text[open + 1..end];
    Some(unescape(inner.split(|b| *b == b'<').next().unwrap_or(inner)))
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'\\' {
            plain.push(*first);
            continue;
        }
        let Some((code, behind)) = rest.split_first() else { break };
        let (base, most, from) = if *code == b'x' { (16, 2, behind) } else { (8, 3, rest) };
        let digits = from.iter().take(most).take_while(|b| char::from(**b).is_digit(base)).count();
        if digits > 0 {
            let value = from[..digits].iter().fold(0, |n, b| n * base + char::from(*b).to_digit(base).unwrap_or(0));
            plain.push(value as u8);
            rest = &from[digits..];
            continue;
        }
        plain.push(match code {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'f' => 0x0c,
            other => *other,
        });
        rest = behind;
    }
    plain
}
