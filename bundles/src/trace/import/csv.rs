//! Comma-separated values (RFC 4180), as far as they are read here: records of bytes, quoted or not.

/// The records of `bytes`, with the number of the line on which each begins.
pub(super) struct Records<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, line: 1 }
    }

    /// One field, and whether it is the record's last.
    fn field(&mut self) -> Result<(Vec<u8>, bool), &'static str> {
        let mut field = Vec::new();
        if let Some(quoted) = self.rest.strip_prefix(b"\"") {
            self.rest = quoted;
            loop {
                let end = self.rest.iter().position(|b| *b == b'"').ok_or("a quote is not closed")?;
                field.extend_from_slice(&self.rest[..end]);
                self.rest = &self.rest[end + 1..];
                match self.rest.strip_prefix(b"\"") {
                    Some(rest) => self.rest = rest,
                    None => break,
                }
                field.push(b'"');
            }
        } else {
            let end = self.rest.iter().position(|b| b",\n".contains(b)).unwrap_or(self.rest.len());
            let plain = &self.rest[..end];
            field.extend_from_slice(plain.strip_suffix(b"\r").unwrap_or(plain));
            self.rest = &self.rest[end..];
        }
        self.line += field.iter().filter(|b| **b == b'\n').count();
        if let Some(rest) = self.rest.strip_prefix(b",") {
            self.rest = rest;
            return Ok((field, false));
        }
        self.rest = self.rest.strip_prefix(b"\r").unwrap_or(self.rest);
        match self.rest.split_first() {
            None => Ok((field, true)),
            Some((b'\n', rest)) => {
                (self.rest, self.line) = (rest, self.line + 1);
                Ok((field, true))
            }
            Some(_) => Err("something follows a closing quote"),
        }
    }
}

/// A record's line, and its fields or what is wrong with it. Nothing comes behind a wrong one.
type Record = (usize, Result<Vec<Vec<u8>>, &'static str>);

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, mut fields) = (self.line, Vec::new());
        loop {
            match self.field() {
                Ok((field, last)) => {
                    fields.push(field);
                    if last {
                        return Some((line, Ok(fields)));
                    }
                }
                Err(why) => {
                    self.rest = &[];
                    return Some((line, Err(why)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_they_were_written() {
        let text = b"a,\"b,\"\"c\"\"\nd\",\r\n\"\",x\ny";
        let records: Vec<_> = Records::new(text).map(|(line, fields)| (line, fields.unwrap())).collect();
        let fields = |list: &[&str]| list.iter().map(|f| f.as_bytes().to_vec()).collect::<Vec<_>>();
        let expected = [(1, fields(&["a", "b,\"c\"\nd", ""])), (3, fields(&["", "x"])), (4, fields(&["y"]))];
        assert_eq!(records, expected);
        for wrong in ["\"a", "\"a\"b,c", "\"a\"\"\n"] {
            assert!(Records::new(wrong.as_bytes()).next().unwrap().1.is_err(), "{wrong}");
        }
    }
}
