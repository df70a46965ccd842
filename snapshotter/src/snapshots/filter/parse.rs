//! The parser of filters. Fuzz target: `snapshotter/fuzz`, `filter`.

use regex::RegexBuilder;

use super::{Filter, Selector, Test};

/// Maximum length of a filter, in bytes. containerd's own filters have a few hundred.
const LIMIT: usize = 64 * 1024;

/// A text that is not a filter.
#[derive(Debug, thiserror::Error)]
#[error("invalid filter {text:?}: byte {at}: {problem}")]
pub struct InvalidFilter {
    text: String,
    at: usize,
    problem: String,
}

/// Parses a whole filter.
pub(super) fn filter(text: &str) -> Result<Filter, InvalidFilter> {
    let mut parser = Parser { text, at: 0 };
    if text.len() > LIMIT {
        return Err(parser.error(format!("longer than {LIMIT} bytes")));
    }
    if text.is_empty() {
        return Ok(Filter(Vec::new()));
    }
    let mut selectors = vec![parser.selector()?];
    while parser.take(',') {
        selectors.push(parser.selector()?);
    }
    if parser.rest().is_empty() { Ok(Filter(selectors)) } else { Err(parser.error("expected ',' or the end")) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, expected: char) -> bool {
        let taken = self.peek() == Some(expected);
        if taken {
            self.at += expected.len_utf8();
        }
        taken
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|char| !accept(char)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn error(&self, problem: impl Into<String>) -> InvalidFilter {
        InvalidFilter { text: self.text.chars().take(200).collect(), at: self.at, problem: problem.into() }
    }

    fn selector(&mut self) -> Result<Selector, InvalidFilter> {
        let mut path = vec![self.field()?];
        while self.take('.') {
            path.push(self.field()?);
        }
        if matches!(self.peek(), None | Some(',')) {
            return Ok(Selector { path, test: Test::Present });
        }
        self.skip_spaces();
        let test = match self.take_while(|char| "=!~".contains(char)) {
            "==" => Test::Equal(self.value(&['"'])?),
            "!=" => Test::NotEqual(self.value(&['"'])?),
            "~=" => {
                let value = self.value(&['"', '/', '|'])?;
                let pattern = RegexBuilder::new(&value).size_limit(1 << 20).build();
                Test::Matches(pattern.map_err(|error| self.error(error.to_string()))?)
            }
            _ => return Err(self.error("expected an operator: ==, != or ~=")),
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, InvalidFilter> {
        self.skip_spaces();
        if self.peek() == Some('"') {
            return self.quoted('"');
        }
        match self.take_while(|char| char.is_ascii_alphanumeric() || "-_".contains(char)) {
            "" => Err(self.error("expected a field name")),
            name => Ok(name.to_owned()),
        }
    }

    fn value(&mut self, quotes: &[char]) -> Result<String, InvalidFilter> {
        self.skip_spaces();
        match self.peek() {
            Some(quote) if quotes.contains(&quote) => self.quoted(quote),
            Some('"' | '/' | '|') => Err(self.error("this quote can be used only after ~=")),
            _ => match self.take_while(|char| char != ',' && !char.is_whitespace()) {
                "" => Err(self.error("expected a value")),
                value => Ok(value.to_owned()),
            },
        }
    }

    /// A string in Go's syntax, beginning with its quote. Escaped bytes must form valid UTF-8.
    fn quoted(&mut self, quote: char) -> Result<String, InvalidFilter> {
        self.take(quote);
        let mut bytes = Vec::new();
        loop {
            let Some(char) = self.peek() else { return Err(self.error(format!("missing closing {quote}"))) };
            self.at += char.len_utf8();
            match char {
                _ if char == quote => break,
                '\n' => return Err(self.error(format!("missing closing {quote} before the end of the line"))),
                '\\' => self.escape(quote, &mut bytes)?,
                _ => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.error("the escapes are not valid UTF-8"))
    }

    fn escape(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<(), InvalidFilter> {
        let Some(char) = self.peek() else { return Err(self.error("nothing follows \\")) };
        if char.is_digit(8) {
            let value = self.digits(3, 8)?;
            bytes.push(u8::try_from(value).map_err(|_| self.error("the escape is larger than a byte"))?);
            return Ok(());
        }
        self.at += char.len_utf8();
        match char {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            'x' => {
                let value = self.digits(2, 16)?;
                bytes.push(u8::try_from(value).map_err(|_| self.error("the escape is larger than a byte"))?);
            }
            'u' | 'U' => {
                let value = self.digits(if char == 'u' { 4 } else { 8 }, 16)?;
                let decoded = char::from_u32(value).ok_or_else(|| self.error("not a Unicode character"))?;
                bytes.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ if char == quote => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return Err(self.error("unknown escape")),
        }
        Ok(())
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, InvalidFilter> {
        let digits = self.rest().get(..count).filter(|digits| digits.chars().all(|char| char.is_digit(radix)));
        let digits = digits.ok_or_else(|| self.error(format!("expected {count} digits")))?;
        let value = u32::from_str_radix(digits, radix).map_err(|error| self.error(error.to_string()))?;
        self.at += count;
        Ok(value)
    }
}
