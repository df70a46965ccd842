//! How numbers are written for people.

use std::time::SystemTime;

use bundles::object::ObjectKind;

/// A number of bytes with a decimal unit: `1.5 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A difference in bytes: `+1.5 MB`.
pub(crate) fn difference(count: i128) -> String {
    let size = bytes(u64::try_from(count.unsigned_abs()).unwrap_or(u64::MAX));
    if count < 0 { format!("-{size}") } else { format!("+{size}") }
}

/// A moment, to the second.
pub(crate) fn time(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// What an object is.
pub(crate) fn kind(kind: ObjectKind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// A text as code in a cell of a Markdown table: it may have backticks and bars of its own.
pub(crate) fn markdown_code(text: &str) -> String {
    let text = text.replace('|', r"\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let (fence, space) = ("`".repeat(longest + 1), if longest > 0 { " " } else { "" });
    format!("{fence}{space}{text}{space}{fence}")
}

/// A number of microseconds: `12.3 ms`, `4.56 s`.
pub(crate) fn microseconds(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{:.1} ms", count as f64 / 1e3),
        _ => format!("{:.2} s", count as f64 / 1e6),
    }
}

/// A path as one line.
pub(crate) fn path(path: &bundles::path::RootPath) -> String {
    line(&path.to_string())
}

/// A text as one line: control characters of hostile names are escaped.
pub(crate) fn line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// A command as a shell would take it.
pub(crate) fn command(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    line(&words.iter().map(word).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_951, "1.0 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (count, text) in [(0, "+0 B"), (1500, "+1.5 kB"), (-1500, "-1.5 kB"), (i128::MIN, "-18446744.1 TB")] {
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
