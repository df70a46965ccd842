//! Containers in user namespaces, whose root file system belongs to other users than the image says.
//!
//! containerd tells a snapshotter the mapping by two labels of a container's Prepare. Who announces the capability
//! `remap-ids` has to give mounts on which the owners are shifted. We do not: the kernel can shift a lower directory only
//! if its file system allows it, and the mount of a CVMFS client does not. So the capability must not be announced
//! (containerd's `proxy_plugins` announce none unless told to), and then containerd makes a committed snapshot of its
//! own, with every file copied and given to its new owner, and bases the container on that. Nothing is left to do for
//! such a container; one that is not based on a shifted snapshot is refused, for its files would have wrong owners.

use crate::error::Error;
use crate::labels::Labels;
use crate::snapshot::label;

/// Who is root in a container: the user and group of the host that its user and group 0 are.
///
/// `None` if the labels ask for no mapping.
pub fn root_of(labels: &Labels) -> Result<Option<(u32, u32)>, Error> {
    let (users, groups) = (labels.get(label::UID_MAPPING), labels.get(label::GID_MAPPING));
    if users.is_none() && groups.is_none() {
        return Ok(None);
    }
    let root = |label: &'static str, mapping: Option<&String>| {
        let mapping = mapping.map(String::as_str).unwrap_or_default();
        root_in(mapping).ok_or_else(|| {
            Error::InvalidArgument(format!(
                "label {label} is {mapping:?}, expected container:host:length,... of which one has 0 as container"
            ))
        })
    };
    Ok(Some((root(label::UID_MAPPING, users)?, root(label::GID_MAPPING, groups)?)))
}

/// The host's id for id 0. All ranges must be right, whether they hold it or not.
fn root_in(mapping: &str) -> Option<u32> {
    let mut root = None;
    for range in mapping.split(',') {
        let numbers: Vec<u32> = range.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [container, host, length] = numbers.try_into().ok()?;
        host.checked_add(length)?;
        if container == 0 && length > 0 {
            root = root.or(Some(host));
        }
    }
    root
}

/// Whether the files of a snapshot can be taken for shifted ones. containerd shifts the root directory, too, and no
/// image's root directory belongs to a user that a namespace is mapped to. Who is mapped to the host's root cannot be
/// told from an unshifted one.
pub fn is_shifted(owner: (u32, u32), is_local: bool, root: (u32, u32)) -> bool {
    is_local && owner == root && root.0 != 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn root(users: Option<&str>, groups: Option<&str>) -> Result<Option<(u32, u32)>, Error> {
        let given = [(label::UID_MAPPING, users), (label::GID_MAPPING, groups)];
        let labels = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        root_of(&labels.collect())
    }

    #[test]
    fn the_mapped_root_is_found_in_containerds_labels() {
        assert_eq!(root(None, None).unwrap(), None);
        assert_eq!(root(Some("0:1000:65536"), Some("0:2000:65536")).unwrap(), Some((1000, 2000)));
        assert_eq!(root(Some("1:100000:9,0:5:1"), Some("0:0:1")).unwrap(), Some((5, 0)));
    }

    #[test]
    fn a_mapping_that_makes_no_sense_is_refused() {
        let right = Some("0:1000:65536");
        for wrong in ["", "0", "0:1", "0:1:2:3", "0:-1:2", "a:b:c", "1:1000:5", "0:1000:0", "0:4294967295:2", "0:1:2,"]
        {
            for (users, groups) in [(Some(wrong), right), (right, Some(wrong))] {
                let error = root(users, groups).unwrap_err();
                assert!(matches!(&error, Error::InvalidArgument(text) if text.contains("mapping")), "{wrong}: {error}");
            }
        }
        for (users, groups) in [(None, right), (right, None)] {
            assert!(matches!(root(users, groups), Err(Error::InvalidArgument(_))));
        }
    }

    #[test]
    fn only_a_local_snapshot_of_the_mapped_root_is_shifted() {
        for (owner, is_local, root, shifted) in [
            ((1000, 2000), true, (1000, 2000), true),
            ((1000, 2000), false, (1000, 2000), false),
            ((0, 0), true, (1000, 2000), false),
            ((1000, 0), true, (1000, 2000), false),
            ((0, 0), true, (0, 0), false),
        ] {
            assert_eq!(is_shifted(owner, is_local, root), shifted, "{owner:?} {is_local} {root:?}");
        }
    }
}
