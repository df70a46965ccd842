//! The directories of a bundle.

use std::io::{self, Write};

use bundles::bundle::Bundle;
use bundles::report::Directory;

use super::figures::row;
use crate::text;

pub(super) fn print(out: &mut impl Write, bundle: &Bundle, depth: usize) -> io::Result<()> {
    text::image(out, &bundle.image)?;
    writeln!(out, "\nobjects    transfer         raw  weight  directory")?;
    let root = Directory::from_bundle(bundle, depth);
    row(out, &root.sum, "/")?;
    below(out, &root, 1)
}

fn below(out: &mut impl Write, directory: &Directory, level: usize) -> io::Result<()> {
    for (name, directory) in directory.by_bytes() {
        let name = text::line(&String::from_utf8_lossy(name));
        row(out, &directory.sum, &format!("{}{name}/", "  ".repeat(level)))?;
        below(out, directory, level + 1)?;
    }
    Ok(())
}
