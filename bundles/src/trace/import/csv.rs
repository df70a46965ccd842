//! Comma-separated values (RFC 4180), as far as the imported formats need them: rows of bytes, quoted or not.

/// The rows of `bytes`, with the line on which each begins.
pub(super) struct Rows<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, line: 1 }
    }

    /// One field, and whether it is the last of its row.
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
                self.rest = rest;
                self.line += 1;
                Ok((field, true))
            }
            Some(_) => Err("characters follow a closing quote"),
        }
    }
}

/// The line of a row, and its fields or what is wrong with it. Nothing follows a malformed row.
type Row = (usize, Result<Vec<Vec<u8>>, &'static str>);

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if self.rest.is_empty() {
            return None;
        }
        let line = self.line;
        let mut fields = Vec::new();
        loop {
            match self.field() {
                Ok((field, last)) => {
                    fields.push(field);
                    if last {
                        return Some((line, Ok(fields)));
                    }
                }
                Err(reason) => {
                    self.rest = &[];
                    return Some((line, Err(reason)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_plain_fields_are_parsed() {
        let text = b"a,\"b,\"\"c\"\"\nd\",\r\n\"\",x\ny";
        let rows: Vec<_> = Rows::new(text).map(|(line, fields)| (line, fields.unwrap())).collect();
        let fields = |list: &[&str]| list.iter().map(|f| f.as_bytes().to_vec()).collect::<Vec<_>>();
        let expected = [(1, fields(&["a", "b,\"c\"\nd", ""])), (3, fields(&["", "x"])), (4, fields(&["y"]))];
        assert_eq!(rows, expected);
        for wrong in ["\"a", "\"a\"b,c", "\"a\"\"\n"] {
            assert!(Rows::new(wrong.as_bytes()).next().unwrap().1.is_err(), "{wrong}");
        }
    }
}
