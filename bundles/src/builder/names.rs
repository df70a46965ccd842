//! What files are called that containers used.

use crate::path::RootPath;
use crate::trace::MountedRepository;

/// What a file is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum FileName {
    /// Of the image, by its path in the container.
    Image(RootPath),
    /// Of another repository, by that one's name and the path in it.
    Other(String, RootPath),
}

/// What the file at `path` in a container with these repositories is called.
pub(super) fn name(mounted: &[MountedRepository], path: RootPath) -> FileName {
    let inside = |mounted: &RootPath| {
        let rest = path.as_bytes().strip_prefix(mounted.as_bytes())?;
        RootPath::new(rest).ok()
    };
    // The innermost mount is the one that is seen.
    let found = mounted.iter().filter_map(|mounted| Some((mounted, inside(&mounted.path)?)));
    match found.max_by_key(|(mounted, _)| mounted.path.as_bytes().len()) {
        Some((mounted, inside)) => FileName::Other(mounted.name.clone(), inside),
        None => FileName::Image(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    #[test]
    fn files_are_the_images_or_those_of_the_innermost_repository() {
        let mounted = |path_: &str, name: &str| MountedRepository { path: path(path_), name: name.into() };
        let repositories = [mounted("/cvmfs/a.b", "a.b"), mounted("/cvmfs/a.b/in", "c.d")];
        for (of, expected) in [
            ("/bin/sh", FileName::Image(path("/bin/sh"))),
            ("/cvmfs/a.bc/x", FileName::Image(path("/cvmfs/a.bc/x"))),
            ("/cvmfs/a.b/x/y", FileName::Other("a.b".into(), path("/x/y"))),
            ("/cvmfs/a.b/in/y", FileName::Other("c.d".into(), path("/y"))),
        ] {
            assert_eq!(name(&repositories, path(of)), expected);
        }
    }
}
