//! The files of a trace as comma-separated values (RFC 4180), paths byte by byte.

use std::io::{self, Write};

use bundles::trace::Trace;

pub(super) fn write(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    writeln!(out, "at_us,how,size,open_flags,path")?;
    for file in &trace.files {
        write!(out, "{},{},{},{},", file.at_us, file.how, file.size, file.open_flags)?;
        out.write_all(&field(file.path.as_bytes()))?;
        writeln!(out)?;
    }
    Ok(())
}

/// `bytes` in quotes, if they need them.
fn field(bytes: &[u8]) -> Vec<u8> {
    if !bytes.iter().any(|b| b",\"\r\n".contains(b)) {
        return bytes.to_vec();
    }
    let mut field = vec![b'"'];
    for byte in bytes {
        if *byte == b'"' {
            field.push(b'"');
        }
        field.push(*byte);
    }
    field.push(b'"');
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::trace;

    #[test]
    fn awkward_names_are_quoted() {
        let mut out = Vec::new();
        write(&mut out, &trace(&[("/a", 1, 2), ("/b,\"c\"\nd", 3, 4)])).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "at_us,how,size,open_flags,path\n1,open,2,0,/a\n3,open,4,0,\"/b,\"\"c\"\"\nd\"\n");
    }
}
