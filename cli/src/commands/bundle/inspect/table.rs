//! The objects of a bundle, in order of expected need.

use std::io::{self, Write};

use bundles::bundle::{Bundle, ProfileSet};
use bundles::report::display_path;

use crate::text;

pub(super) fn print(out: &mut impl Write, bundle: &Bundle) -> io::Result<()> {
    text::image(out, &bundle.image)?;
    writeln!(
        out,
        "\n  first use     typical  phase      used in   share confid.    transfer         raw  kind     \
         pack  profiles              object and path"
    )?;
    for object in &bundle.objects {
        let need = &object.need;
        writeln!(
            out,
            "{:>11} {:>11}  {:<8} {:>9} {:>7} {:>7} {:>11} {:>11}  {:<7} {:>5}  {:<20}  {} {}",
            text::microseconds(need.first_us),
            text::microseconds(need.typical_us),
            need.phase.to_string(),
            need.used_in,
            need.share.to_string(),
            need.confidence.to_string(),
            text::bytes(object.stored_size),
            text::bytes(object.raw_size),
            text::kind(object.kind),
            object.packed.map_or("-".into(), |packed| packed.pack.to_string()),
            profiles(bundle, need.profiles),
            object.hash,
            text::path(&display_path(bundle, object))
        )?;
    }
    Ok(())
}

/// The names of profiles; `-` for the common section.
fn profiles(bundle: &Bundle, set: ProfileSet) -> String {
    let names: Vec<_> = set.iter().filter_map(|n| Some(text::line(&bundle.profiles.get(n)?.name))).collect();
    if names.is_empty() { "-".into() } else { names.join(",") }
}
