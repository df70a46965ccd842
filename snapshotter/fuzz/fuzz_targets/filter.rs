//! Filters of containerd's List. Parsing and matching end, and a filter that quotes any name matches this name and no other.
#![no_main]

use snapshotter_fuzz::filter::Filter;

/// The fields of a snapshot.
fn field<'a>(path: &[String]) -> Option<&'a str> {
    match path.first()?.as_str() {
        "name" => Some("k8s.io/1/sha256:x"),
        "parent" => Some(""),
        "labels" => Some("value"),
        _ => None,
    }
}

/// As Go quotes a string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|char| match char {
        '"' | '\\' => format!("\\{char}"),
        '\n' => "\\n".to_owned(),
        _ => char.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(filter) = Filter::parse(text) {
        filter.matches(field);
    }
    if let Ok(filter) = Filter::parse(&format!("name=={}", quoted(text))) {
        let longer = format!("{text}x");
        assert!(filter.matches(|_| Some(text)));
        assert!(!filter.matches(|_| Some(longer.as_str())));
    } else {
        assert!(text.len() > 10_000, "a quoted value is refused");
    }
});
