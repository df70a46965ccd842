//! Filters of containerd's List, in containerd's grammar:
//!
//! ```text
//! filter    := selector ("," selector)*        all selectors must match; an empty filter always matches
//! selector  := fieldpath (operator value)?     without an operator: the field exists
//! fieldpath := field ("." field)*
//! field     := quoted | [A-Za-z0-9_-]+
//! operator  := "==" | "!=" | "~="              "~=": a regular expression matches a part of the field
//! value     := quoted | [^ ,]+
//! quoted    := a Go string; after "~=" also between "/" or "|"
//! ```

mod parse;

pub use parse::InvalidFilter;

use regex::Regex;

/// A parsed filter.
#[derive(Debug, Clone)]
pub struct Filter(Vec<Selector>);

#[derive(Debug, Clone)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filter {
    /// Parses a filter. The text comes from containerd, and through it from any of its clients.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        parse::filter(text)
    }

    /// Whether the filter matches an object; `field` returns the value of a field of the object.
    pub fn matches<'a>(&self, field: impl Fn(&[String]) -> Option<&'a str>) -> bool {
        self.0.iter().all(|selector| {
            let value = field(&selector.path);
            match &selector.test {
                Test::Present => value.is_some(),
                Test::Equal(expected) => value == Some(expected.as_str()),
                // As in containerd, a missing field counts as empty for these two operators.
                Test::NotEqual(other) => value.unwrap_or_default() != other.as_str(),
                Test::Matches(pattern) => pattern.is_match(value.unwrap_or_default()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matches(filter: &str) -> bool {
        Filter::parse(filter).unwrap().matches(|path| match path.join("/").as_str() {
            "name" => Some("foo,bar \"q\""),
            "labels/plain" => Some("value"),
            "labels/dotted.key/x" => Some("sha256:1"),
            "empty" => Some(""),
            _ => None,
        })
    }

    #[test]
    fn filters_match_as_in_containerd() {
        for (filter, expected) in [
            ("", true),
            ("name", true),
            ("missing", false),
            ("empty", true),
            (r#"name=="foo,bar \"q\"""#, true),
            (r#"name=="foo\x2cbar \u0022q\042""#, true),
            ("labels.plain==value", true),
            ("labels.plain == value", true),
            ("labels.plain==other", false),
            ("labels.plain!=other", true),
            ("missing!=other", true),
            (r#"missing=="""#, false),
            (r#"labels."dotted.key".x==sha256:1"#, true),
            (r#"labels."dotted.key".x==sha256:1,labels.plain==value"#, true),
            (r#"labels."dotted.key".x==sha256:1,labels.plain==no"#, false),
            ("labels.plain~=^val", true),
            ("labels.plain~=/^v.l/", true),
            ("labels.plain~=|^x|", false),
            (r#"labels.plain~="e$""#, true),
        ] {
            assert_eq!(matches(filter), expected, "{filter}");
        }
    }

    #[test]
    fn invalid_filters_are_refused() {
        for bad in [
            "==x",
            "name=x",
            "name===x",
            "name=~x",
            "name==",
            "name==\"x",
            "name==\"\\q\"",
            "name==x,",
            ",",
            "a..b",
            "na me",
            "name==\"x\"y",
            "name~=(",
            "name==/x/",
            "name==\"\\x4\"",
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Filter::parse(&"a,".repeat(100_000)).is_err());
    }
}
