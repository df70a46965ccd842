//! Parses the client's configuration files, which are shell scripts.
//!
//! The parser supports what such files consist of: `KEY=value` with quotes and `$OTHER`, `${OTHER:-default}` and
//! `${OTHER:=default}`, `export`, `readonly`, comments, continued lines, and `if [ one = other ]; then` with `else` and
//! `fi`, which the stock `default.conf` ends with. Anything that a shell would have to execute is refused with file and
//! line: a guessed value would be worse than none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A repository's parameters by name.
pub type Values = BTreeMap<String, String>;

/// Maximum length of a value. Longer values come from variables that contain each other.
const MAX_VALUE: usize = 64 << 10;

const OPEN_QUOTE: Unsupported = Unsupported::Unfinished("a quote is not closed on its line");

/// A line that would have to be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct ShellError {
    /// The configuration file.
    pub file: PathBuf,
    /// Number of the line, from 1.
    pub line: usize,
    /// Why it would.
    pub reason: Unsupported,
}

/// What this parser does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Another condition than a comparison of two words.
    #[error("`if {0}` is not a comparison of two words; only a shell could evaluate it")]
    Condition(String),
    /// A command.
    #[error("{0:?} is not an assignment; only a shell could execute it")]
    Command(String),
    /// An operator of the shell after a value.
    #[error("{text:?} after the value of {key}; quote the value")]
    AfterValue {
        /// The parameter.
        key: String,
        /// The text that follows its value.
        text: String,
    },
    /// A command substitution, in the form of the text.
    #[error("a command substitution ({0}) is not supported")]
    Substitution(&'static str),
    /// `${...}` that is not a variable with or without a default.
    #[error("${{{0}}} is not just a variable with a default")]
    Expansion(String),
    /// A variable that the shell itself sets.
    #[error("${0} is known only to a shell")]
    SpecialVariable(char),
    /// A quote, brace or backslash without its end.
    #[error("{0}")]
    Unfinished(&'static str),
    /// `else` or `fi` outside an `if`.
    #[error("{0} without if")]
    WithoutIf(&'static str),
    /// A value that is too long.
    #[error("a value of more than {MAX_VALUE} bytes")]
    Long,
}

/// An `if` around the current line.
struct Branch {
    /// Whether the lines around the `if` are executed.
    outside: bool,
    /// Whether the lines of the current branch are executed.
    taken: bool,
}

/// Adds the assignments of `text` to `values`, to which they may refer. `file` is used for errors only.
pub fn read(text: &str, file: &Path, values: &mut Values) -> Result<(), ShellError> {
    let mut branches: Vec<Branch> = Vec::new();
    let mut pending = String::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(continued) = line.strip_suffix('\\') {
            pending.push_str(continued);
            continue;
        }
        let statement = std::mem::take(&mut pending) + line;
        execute(statement.trim(), values, &mut branches).map_err(|reason| ShellError {
            file: file.into(),
            line: at + 1,
            reason,
        })?;
    }
    if branches.is_empty() && pending.is_empty() {
        return Ok(());
    }
    Err(ShellError {
        file: file.into(),
        line: text.lines().count(),
        reason: Unsupported::Unfinished("the file ends too early"),
    })
}

fn execute(statement: &str, values: &mut Values, branches: &mut Vec<Branch>) -> Result<(), Unsupported> {
    if statement.is_empty() || statement.starts_with('#') {
        return Ok(());
    }
    let counts = branches.last().is_none_or(|b| b.taken);
    let (first, rest) = statement.split_once(char::is_whitespace).unwrap_or((statement, ""));
    match first.trim_end_matches(';') {
        "if" => {
            let taken = counts && condition(rest.trim(), values)?;
            branches.push(Branch { outside: counts, taken });
            Ok(())
        }
        "then" if rest.is_empty() && !branches.is_empty() => Ok(()),
        "else" if rest.is_empty() => {
            let branch = branches.last_mut().ok_or(Unsupported::WithoutIf("else"))?;
            branch.taken = branch.outside && !branch.taken;
            Ok(())
        }
        "fi" => branches.pop().map(drop).ok_or(Unsupported::WithoutIf("fi")),
        "export" | "readonly" if counts && rest.contains('=') => assignments(rest.trim(), values),
        "export" | "readonly" => Ok(()),
        _ if counts => assignments(statement, values),
        _ => Ok(()),
    }
}

/// Evaluates `[ left = right ]; then`.
fn condition(text: &str, values: &mut Values) -> Result<bool, Unsupported> {
    let refused = || Unsupported::Condition(text.to_owned());
    let inner = text.trim_end_matches("then").trim_end().trim_end_matches(';').trim_end();
    let inner = inner.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or_else(refused)?;
    let mut words = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() && words.len() < 4 {
        let (word, after) = word(rest, values)?;
        words.push(word);
        rest = after.trim_start();
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [left, "=" | "==", right] => Ok(left == right),
        [left, "!=", right] => Ok(left != right),
        ["-n", word] => Ok(!word.is_empty()),
        ["-z", word] => Ok(word.is_empty()),
        _ => Err(refused()),
    }
}

/// Executes `KEY=value`, several on a line, with a comment.
fn assignments(text: &str, values: &mut Values) -> Result<(), Unsupported> {
    let mut rest = text;
    while !rest.is_empty() && !rest.starts_with('#') {
        let key = rest.split_once('=').map(|(key, _)| key).filter(|key| is_name(key));
        let key = key.ok_or_else(|| Unsupported::Command(rest.to_owned()))?;
        let (value, after) = word(&rest[key.len() + 1..], values)?;
        let ended = after.trim_start();
        if ended.len() == after.len() && !ended.is_empty() && !ended.starts_with(';') {
            return Err(Unsupported::AfterValue { key: key.to_owned(), text: ended.to_owned() });
        }
        values.insert(key.to_owned(), value);
        rest = ended.trim_start_matches(';').trim_start();
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The first word of `text` without quotes and with variables replaced, and the rest of the text.
fn word<'t>(text: &'t str, values: &mut Values) -> Result<(String, &'t str), Unsupported> {
    let mut value = String::new();
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '"' => {
                quoted = !quoted;
                after
            }
            '\'' if !quoted => {
                let (literal, after) = after.split_once('\'').ok_or(OPEN_QUOTE)?;
                value.push_str(literal);
                after
            }
            '`' => return Err(Unsupported::Substitution("`...`")),
            '$' => variable(after, values, &mut value)?,
            '\\' => {
                let escaped = after.chars().next().ok_or(Unsupported::Unfinished("a backslash without a character"))?;
                if quoted && !"$`\"\\".contains(escaped) {
                    value.push('\\');
                }
                value.push(escaped);
                &after[escaped.len_utf8()..]
            }
            ';' | '|' | '&' | '<' | '>' | '(' | ')' if !quoted => break,
            c if c.is_whitespace() && !quoted => break,
            c => {
                value.push(c);
                after
            }
        };
        if value.len() > MAX_VALUE {
            return Err(Unsupported::Long);
        }
    }
    if quoted { Err(OPEN_QUOTE) } else { Ok((value, rest)) }
}

/// Appends the value of the variable whose name follows a `$`; returns the rest of the text.
fn variable<'t>(after: &'t str, values: &mut Values, out: &mut String) -> Result<&'t str, Unsupported> {
    if let Some(braced) = after.strip_prefix('{') {
        let (inner, rest) = braced.split_once('}').ok_or(Unsupported::Unfinished("${ without }"))?;
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (name, how) = inner.split_at(end);
        let known = values.get(name).cloned().unwrap_or_default();
        if !is_name(name) {
            return Err(Unsupported::Expansion(inner.to_owned()));
        }
        let default = how.strip_prefix(":-").or_else(|| how.strip_prefix(":="));
        match default {
            _ if how.is_empty() || (default.is_some() && !known.is_empty()) => out.push_str(&known),
            Some(default) => {
                // A default may have quotes and blanks of its own.
                let (default, _) = word(&format!("\"{}\"", default.replace('"', "")), values)?;
                out.push_str(&default);
                if how.starts_with(":=") {
                    values.insert(name.to_owned(), default);
                }
            }
            None => return Err(Unsupported::Expansion(inner.to_owned())),
        }
        return Ok(rest);
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    let (name, rest) = after.split_at(end);
    match name {
        "" if after.starts_with('(') => Err(Unsupported::Substitution("$(...)")),
        name if is_name(name) => {
            out.push_str(values.get(name).map_or("", String::as_str));
            Ok(rest)
        }
        _ => Err(Unsupported::SpecialVariable(after.chars().next().unwrap_or(' '))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(text: &str) -> Result<Values, ShellError> {
        let mut values = Values::from([("KNOWN".into(), "known value".into())]);
        read(text, Path::new("/etc/cvmfs/default.local"), &mut values)?;
        values.remove("KNOWN");
        Ok(values)
    }

    #[test]
    fn values_are_the_same_as_in_a_shell() {
        let cases = [
            ("A=b", "b"),
            ("  A=b   # why", "b"),
            ("A=", ""),
            ("A=b#c", "b#c"),
            ("A='b \"c\" $KNOWN'", "b \"c\" $KNOWN"),
            ("A=\"b 'c' $KNOWN\"", "b 'c' known value"),
            ("A=\"http://a:3128|http://b:3128;DIRECT\"", "http://a:3128|http://b:3128;DIRECT"),
            ("A=\"b \\\"c\\\" \\$KNOWN \\x\"", "b \"c\" $KNOWN \\x"),
            ("A=b\\ c", "b c"),
            ("A=b'c'\"d\"", "bcd"),
            ("export A=b", "b"),
            ("readonly A=b", "b"),
            ("A=${KNOWN}/x", "known value/x"),
            ("A=$KNOWN/x", "known value/x"),
            ("A=$UNKNOWN", ""),
            ("A=${UNKNOWN:-\"http://a/@fqrn@;http://b/@fqrn@\"}", "http://a/@fqrn@;http://b/@fqrn@"),
            ("A=${KNOWN:-other}", "known value"),
            ("A=${UNKNOWN:=$KNOWN}", "known value"),
            ("A=\"b \\\nc\"", "b c"),
            ("A=b\r", "b"),
            ("A=b\nA=c", "c"),
            ("A=b;", "b"),
            ("A=b\nif [ \"x$KNOWN\" = \"x\" ]; then\n  readonly A=c\nfi", "b"),
            ("if [ \"$KNOWN\" != \"\" ]\nthen\n A=c\nelse\n A=d\nfi", "c"),
            ("A=b\nif [ -z \"$KNOWN\" ]; then\n if [ a = a ]; then\n  A=c\n fi\nelse\n A=d\nfi", "d"),
        ];
        for (text, expected) in cases {
            assert_eq!(values(text).unwrap_or_else(|e| panic!("{text}: {e}"))["A"], expected, "{text}");
        }
        assert_eq!(values("A=1 B=\"2 3\"; C=4 # D=5").unwrap().len(), 3);
        assert_eq!(values("A=${B:=c}").unwrap()["B"], "c");
        assert!(values("export KNOWN\n# A=b\n\n").unwrap().is_empty());
    }

    #[test]
    fn lines_that_need_a_shell_are_refused_by_number() {
        let cases = [
            ("A=$(hostname)", "command substitution"),
            ("A=\"`hostname`\"", "command substitution"),
            (". ../common.conf", "not an assignment"),
            ("eval A=b", "not an assignment"),
            ("A=b | c", "not an assignment"),
            ("A=b|c", "quote the value"),
            ("A=\"b", "not closed"),
            ("A='b", "not closed"),
            ("A=$1", "$1"),
            ("A=${KNOWN%x}", "not just a variable"),
            ("if [ -f /etc/x ]; then\nfi", "comparison"),
            ("if true; then\nfi", "comparison"),
            ("if [ a = a ]; then", "ends too early"),
            ("else", "without if"),
            ("for a in b; do", "not an assignment"),
            ("A-B=c", "not an assignment"),
        ];
        for (text, expected) in cases {
            let message = values(text).unwrap_err().to_string();
            assert!(message.starts_with("/etc/cvmfs/default.local:1: ") && message.contains(expected), "{message}");
        }
        assert_eq!(values("A=b\n\nls").unwrap_err().line, 3);
        // A branch that is not taken is not parsed.
        assert_eq!(values("if [ a = b ]; then\n A=$(x)\nfi\nA=c").unwrap()["A"], "c");
        let doubling = "A=xxxxxxxxxxxxxxxx\n".to_owned() + &"A=$A$A\n".repeat(40);
        assert!(values(&doubling).unwrap_err().to_string().contains("bytes"));
    }
}
