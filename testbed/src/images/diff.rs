//! The layer that leads from one state of a root file system to the next.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::LayerTar;
use super::scan::{Kind, Tree, write_entries};

/// Writes what is in `after` (on disk below `root`) and not in `before`, with the directories above it, and whiteouts
/// for what is gone.
pub(super) fn write_difference(before: &Tree, after: &Tree, root: &Path, tar: &mut LayerTar) -> Result<()> {
    let mut selected: HashSet<&Path> = HashSet::new();
    let gone = gone(before, after);
    let changed = after.iter().filter(|(path, entry)| before.get(*path) != Some(*entry)).map(|(path, _)| path);
    for path in changed.chain(&gone) {
        // With the directories above: in an overlay the topmost layer's directory gives mode and owner.
        selected.extend(path.ancestors().filter(|p| after.contains_key(*p)));
    }
    write_entries(after, root, |path| selected.contains(path), tar)?;
    for path in gone {
        tar.owner(Default::default()).mtime(super::EPOCH).whiteout(path)?;
    }
    Ok(())
}

/// The topmost paths of what was deleted. What something else took the place of needs no whiteout.
fn gone(before: &Tree, after: &Tree) -> Vec<PathBuf> {
    let kept_directory =
        |path: &Path| path == Path::new("") || after.get(path).is_some_and(|entry| entry.kind == Kind::Directory);
    before
        .keys()
        .filter(|path| !after.contains_key(*path) && path.parent().is_some_and(kept_directory))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::io::Read;

    use super::super::scan::scan;
    use super::*;

    /// The names, kinds and contents in the layer that leads from the tree that `first` makes to what `then` makes of it.
    fn layer_of(first: impl Fn(&Path), then: impl Fn(&Path)) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        first(root.path());
        let before = scan(root.path(), 0).unwrap();
        then(root.path());
        let after = scan(root.path(), 0).unwrap();
        let mut tar = LayerTar::new();
        write_difference(&before, &after, root.path(), &mut tar).unwrap();
        let bytes = tar.finish().unwrap();
        tar::Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                format!("{} {:?} {content}", entry.path().unwrap().display(), entry.header().entry_type())
            })
            .collect()
    }

    fn base(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/one"), "1").unwrap();
        fs::write(root.join("a/two"), "2").unwrap();
        fs::write(root.join("three"), "3").unwrap();
        fs::create_dir(root.join("proc")).unwrap();
    }

    #[test]
    fn nothing_changed_means_an_empty_layer() {
        assert_eq!(layer_of(base, |root| fs::write(root.join("proc/x"), "").unwrap()), [""; 0]);
    }

    #[test]
    fn changes_come_with_their_directories() {
        let layer = layer_of(base, |root| fs::write(root.join("a/b/one"), "new").unwrap());
        assert_eq!(layer, ["a Directory ", "a/b Directory ", "a/b/one Regular new"]);
    }

    #[test]
    fn deletions_are_whiteouts_of_the_topmost_path() {
        let layer = layer_of(base, |root| fs::remove_dir_all(root.join("a/b")).unwrap());
        assert_eq!(layer, ["a Directory ", "a/.wh.b Regular "]);
        let layer = layer_of(base, |root| fs::remove_file(root.join("three")).unwrap());
        assert_eq!(layer, [".wh.three Regular "]);
    }

    #[test]
    fn what_takes_another_ones_place_needs_no_whiteout() {
        let layer = layer_of(base, |root| {
            fs::remove_dir_all(root.join("a")).unwrap();
            fs::write(root.join("a"), "file").unwrap();
        });
        assert_eq!(layer, ["a Regular file"]);
    }

    #[test]
    fn second_names_are_hard_links() {
        let layer = layer_of(base, |root| {
            fs::write(root.join("x"), "x").unwrap();
            fs::hard_link(root.join("x"), root.join("y")).unwrap();
        });
        assert_eq!(layer, ["x Regular x", "y Link "]);
    }
}
