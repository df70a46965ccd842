//! How an error is printed: one line with its causes, and hints on lines of their own. Never a backtrace.

use std::fmt;
use std::io::Write;

use anyhow::Error;

/// What the user can do about an error. Printed below it; attach it with `error.context(Hint(..))`.
#[derive(Debug)]
pub(crate) struct Hint(pub(crate) &'static str);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Prints `error` on standard error. Standard error may be closed.
pub(crate) fn print(error: &Error) {
    let _ = std::io::stderr().write_all(text(error).as_bytes());
}

/// `error: what failed: why`, and `hint: ...`.
fn text(error: &Error) -> String {
    let mut text = format!("error: {}\n", causes(error));
    if let Some(Hint(hint)) = error.downcast_ref() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// The messages of the error and its causes, joined. Libraries differ in whether a message contains its cause; a cause that
/// the message before it ends with is not repeated.
pub(crate) fn causes(error: &Error) -> String {
    let hint = error.downcast_ref::<Hint>().map(ToString::to_string);
    let mut joined = String::new();
    for message in error.chain().map(ToString::to_string).filter(|message| Some(message) != hint.as_ref()) {
        if joined.is_empty() {
            joined = message;
        } else if !joined.ends_with(&message) {
            joined = format!("{joined}: {message}");
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("x.bundle: {source}")]
    struct File {
        source: std::io::Error,
    }

    #[test]
    fn a_cause_is_printed_once() {
        let read_only = || std::io::Error::from_raw_os_error(30);
        let error = Error::from(File { source: read_only() }).context("cannot write the bundle");
        let expected = "error: cannot write the bundle: x.bundle: Read-only file system (os error 30)\n";
        assert_eq!(text(&error), expected);
        assert_eq!(text(&anyhow!(read_only())), "error: Read-only file system (os error 30)\n");
    }

    #[test]
    fn a_hint_follows_on_its_own_line() {
        let error =
            anyhow!("wrong version number").context("cannot reach r.example.org").context(Hint("add --plain-http"));
        assert_eq!(text(&error), "error: cannot reach r.example.org: wrong version number\nhint: add --plain-http\n");
    }
}
