//! Which traces show the same kind of work.

use std::collections::BTreeMap;

use crate::bundle::{MAX_PROFILES, Profile};
use crate::trace::{FileUse, PathNumber, Paths, Use};

/// The longest name of a profile, in bytes.
pub const MAX_NAME: usize = 100;

/// The name under which the rarest kinds of work stand together, if there are more than a bundle has profiles.
const OTHERS: &str = "others";

/// What a trace's container was run for: what was said when it was recorded; else its program with the first argument, and
/// what that is an option for; else, if the command was not kept, the first program it executed.
pub(super) fn name_of(said: &str, command: &[String], files: &[FileUse<PathNumber>], paths: &Paths) -> String {
    let name = match (said, command) {
        ("", []) => first_program(files, paths),
        ("", [program, first, second, ..]) if first.starts_with('-') => format!("{program} {first} {second}"),
        ("", [program, first, ..]) => format!("{program} {first}"),
        ("", [program]) => program.clone(),
        (said, _) => said.to_owned(),
    };
    tidy(&name)
}

fn first_program(files: &[FileUse<PathNumber>], paths: &Paths) -> String {
    // Hooks on the container's root are none of its processes, and come before them.
    let executed = files.iter().filter(|file| file.how == Use::Exec);
    let first = executed.min_by_key(|file| (!file.process.is_known(), file.at_us));
    first.map(|file| paths.get(file.path).to_string()).unwrap_or_default()
}

/// As one short line.
fn tidy(name: &str) -> String {
    let mut tidy: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while tidy.len() > MAX_NAME {
        tidy.pop();
    }
    tidy.trim().to_owned()
}

/// The profiles of a bundle, the most frequent first, and of each name given the profile it belongs to.
pub(super) fn group<'a>(names: impl Iterator<Item = &'a str>) -> (Vec<Profile>, BTreeMap<String, usize>) {
    let mut counts = BTreeMap::<&str, u32>::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let mut ordered: Vec<_> = counts.into_iter().collect();
    ordered.sort_by(|(a, a_count), (b, b_count)| (b_count, a).cmp(&(a_count, b)));
    let kept = if ordered.len() > MAX_PROFILES { MAX_PROFILES - 1 } else { ordered.len() };
    let mut profiles: Vec<Profile> =
        ordered.iter().take(kept).map(|(name, traces)| Profile { name: (*name).to_owned(), traces: *traces }).collect();
    if kept < ordered.len() {
        let traces = ordered[kept..].iter().map(|(_, traces)| traces).sum();
        profiles.push(Profile { name: OTHERS.to_owned(), traces });
    }
    let places = ordered.iter().enumerate().map(|(place, (name, _))| ((*name).to_owned(), place.min(kept)));
    (profiles, places.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ChainId, Digest, ImageId};
    use crate::path::RootPath;
    use crate::trace::{FileUse, Process, Trace, read_numbered};

    #[test]
    fn profiles_come_from_names_commands_or_programs() {
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: String::new() };
        let exec = |path: &str, at_us| FileUse { how: Use::Exec, at_us, ..FileUse::new(RootPath::new(path).unwrap()) };
        let inside = |path: &str, at_us| FileUse { process: Process::new(7, 1, b"x"), ..exec(path, at_us) };
        let files = vec![exec("/hook", 1), inside("/usr/bin/python3", 9), inside("/bin/ls", 12)];
        let trace = Trace { files, ..Trace::new(image) };
        let imported = Trace { files: vec![exec("/bin/ls", 2), exec("/bin/cat", 1)], ..trace.clone() };
        let name = |trace: Trace| {
            let mut paths = Paths::default();
            let (trace, files) = read_numbered(&trace.to_bytes().unwrap(), &mut paths).unwrap();
            name_of(&trace.profile, &trace.command, &files, &paths)
        };
        assert_eq!(name(imported), "/bin/cat");
        let long = "x".repeat(200);
        for (profile, command, expected) in [
            ("", &[][..], "/usr/bin/python3"),
            ("", &["root"], "root"),
            ("", &["root", "fit.C", "5"], "root fit.C"),
            ("", &["python3", "-m", "http.server", "80"], "python3 -m http.server"),
            ("", &["sh", "-c"], "sh -c"),
            ("", &["sh", "-c", "a\nb"], "sh -c a b"),
            ("fit", &["root", "fit.C"], "fit"),
            (&long, &[], &long[..MAX_NAME]),
        ] {
            let command = command.iter().map(ToString::to_string).collect();
            assert_eq!(name(Trace { profile: profile.to_owned(), command, ..trace.clone() }), expected);
        }
    }

    #[test]
    fn profiles_are_sorted_and_rare_ones_combined() {
        let (profiles, places) = group(["b", "a", "c", "b"].into_iter());
        let shown: Vec<_> = profiles.iter().map(|profile| (profile.name.as_str(), profile.traces)).collect();
        assert_eq!(shown, [("b", 2), ("a", 1), ("c", 1)]);
        assert_eq!(places["c"], 2);
        let many: Vec<String> = (0..70).map(|n| format!("{n:02}")).collect();
        let (profiles, places) = group(many.iter().map(String::as_str).chain(["69"]));
        assert_eq!((profiles.len(), places["69"], places["68"]), (MAX_PROFILES, 0, MAX_PROFILES - 1));
        assert_eq!(profiles[MAX_PROFILES - 1], Profile { name: OTHERS.into(), traces: 7 });
    }
}
