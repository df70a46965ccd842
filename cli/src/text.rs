//! How numbers, times, names and commands are printed.

use std::io::{self, Write};
use std::time::SystemTime;

use bundles::image::ImageId;
use bundles::object::ObjectKind;
use indicatif::DecimalBytes;

/// A number of bytes with a decimal unit, `1.50 MB`. A string, as only strings are padded to a column's width.
pub(crate) fn bytes(count: u64) -> String {
    DecimalBytes(count).to_string()
}

/// A difference in bytes: `+1.50 MB`.
pub(crate) fn difference(count: i128) -> String {
    let size = bytes(u64::try_from(count.unsigned_abs()).unwrap_or(u64::MAX));
    if count < 0 { format!("-{size}") } else { format!("+{size}") }
}

/// A point in time, to the second.
pub(crate) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The kind of an object, as in JSON.
pub(crate) fn kind(kind: ObjectKind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// A text as code in a cell of a Markdown table. It may contain backticks and bars of its own.
pub(crate) fn markdown_code(text: &str) -> String {
    let text = text.replace('|', r"\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let (fence, space) = ("`".repeat(longest + 1), if longest > 0 { " " } else { "" });
    format!("{fence}{space}{text}{space}{fence}")
}

/// A number of microseconds: `12.3 ms`, `4.56 s`. indicatif's `HumanDuration` rounds to seconds, which says nothing of a
/// start.
pub(crate) fn microseconds(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{:.1} ms", count as f64 / 1e3),
        _ => format!("{:.2} s", count as f64 / 1e6),
    }
}

/// A path on one line.
pub(crate) fn path(path: &bundles::path::RootPath) -> String {
    line(&path.to_string())
}

/// A text on one line: control characters, which hostile file names contain, are escaped.
pub(crate) fn line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// The names of an image, a line each.
pub(crate) fn image(out: &mut impl Write, image: &ImageId) -> io::Result<()> {
    writeln!(out, "image       {}", line(&image.reference))?;
    writeln!(out, "chain ID    {}", image.chain_id)?;
    if let Some(manifest) = &image.manifest {
        writeln!(out, "manifest    {manifest}")?;
    }
    Ok(())
}

/// A command, quoted for a shell.
pub(crate) fn command(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = |word: &String| {
        let is_plain = !word.is_empty() && word.chars().all(plain);
        if is_plain { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    line(&words.iter().map(quoted).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        for (count, text) in [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1_500_000, "1.50 MB")] {
            assert_eq!(bytes(count), text);
        }
        for (count, text) in [(0, "+0 B"), (1500, "+1.50 kB"), (-1500, "-1.50 kB"), (i128::MIN, "-18.45 EB")] {
            assert_eq!(difference(count), text);
        }
        assert_eq!(microseconds(1500), "1.5 ms");
        assert_eq!(microseconds(2_500_000), "2.50 s");
    }

    #[test]
    fn commands_are_quoted() {
        for (words, text) in [
            (&["sh", "-c", "a b"][..], "sh -c 'a b'"),
            (&["", "it's", "a\nb"], r"'' 'it'\''s' 'a\nb'"),
            (&["/bin/x", "--y=1,2"], "/bin/x --y=1,2"),
        ] {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            assert_eq!(command(&words), text);
        }
    }
}
