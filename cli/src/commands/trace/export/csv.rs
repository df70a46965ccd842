//! The files of a trace as comma-separated values (RFC 4180), paths byte by byte. A field is
//! empty if the recorder does not know the value.

use std::io::{self, Write};

use bundles::trace::Trace;

pub(super) fn write(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    writeln!(out, "at_us,how,size,open_flags,phase,pid,process,written,bytes_read,bytes_ahead,path")?;
    for file in &trace.files {
        write!(out, "{},{},{},{},", file.at_us, file.how, file.size, file.open_flags)?;
        write!(out, "{},{},", trace.phases.phase_at(file.at_us), file.process.pid)?;
        out.write_all(&field(file.process.name.as_bytes()))?;
        match &file.ranges {
            Some(ranges) => write!(out, ",{},{},{},", file.written, ranges.bytes_read(), ranges.bytes_ahead())?,
            None => write!(out, ",{},,,", file.written)?,
        }
        out.write_all(&field(file.path.as_bytes()))?;
        writeln!(out)?;
    }
    Ok(())
}

/// `bytes`, quoted if necessary.
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
    use crate::test_traces::{full_trace, trace};

    const TITLE: &str = "at_us,how,size,open_flags,phase,pid,process,written,bytes_read,bytes_ahead,path\n";

    fn written(trace: &Trace) -> String {
        let mut out = Vec::new();
        write(&mut out, trace).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn awkward_names_are_quoted() {
        let text = written(&trace(&[("/a", 1, 2), ("/b,\"c\"\nd", 3, 4)]));
        let rows = "1,open,2,0,start-up,0,,false,,,/a\n3,open,4,0,start-up,0,,false,,,\"/b,\"\"c\"\"\nd\"\n";
        assert_eq!(text, format!("{TITLE}{rows}"));
    }

    #[test]
    fn phases_processes_and_ranges_have_columns() {
        let rows = "0,open,1000,0,set-up,0,,false,400,300,/bin/sh\n\
                    10,open,300,0,start-up,1,sh,true,100,0,/etc/conf\n\
                    20,open,500,0,main,7,\"a,b\",false,0,0,/usr/lib/a\n";
        assert_eq!(written(&full_trace()), format!("{TITLE}{rows}"));
    }
}
