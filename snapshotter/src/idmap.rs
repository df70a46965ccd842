//! Containers in user namespaces, whose root file system belongs to other users than the image says.
//!
//! containerd passes the mapping in two labels of a container's Prepare. A snapshotter that announces the capability
//! `remap-ids` must return mounts that shift the owners. This one cannot: the kernel shifts the owners of a lower directory
//! only if its file system allows it, and the mount of a CVMFS client does not. So the capability must not be announced
//! (containerd's `proxy_plugins` announce none by default). containerd then makes a committed snapshot with a shifted copy
//! of every file and bases the container on it, and nothing is left to do here. A container that is not based on a shifted
//! snapshot is refused, because its files would have the wrong owners.

use crate::snapshots::labels::{GID_MAPPING, Labels, UID_MAPPING};

/// A label that is no mapping of ids.
#[derive(Debug, thiserror::Error)]
#[error("label {label} is {mapping:?}, expected `container:host:length,...` with a range for container id 0")]
pub struct InvalidMapping {
    label: &'static str,
    mapping: String,
}

/// The user and group of the host that are root in the container; `None` if the labels ask for no mapping.
pub fn mapped_root(labels: &Labels) -> Result<Option<(u32, u32)>, InvalidMapping> {
    if !labels.contains_key(UID_MAPPING) && !labels.contains_key(GID_MAPPING) {
        return Ok(None);
    }
    let root = |label: &'static str| {
        let mapping = labels.get(label).map(String::as_str).unwrap_or_default();
        host_id_of_root(mapping).ok_or_else(|| InvalidMapping { label, mapping: mapping.to_owned() })
    };
    Ok(Some((root(UID_MAPPING)?, root(GID_MAPPING)?)))
}

/// The host's id for the container's id 0. Every range must be valid, not only the one that holds it.
fn host_id_of_root(mapping: &str) -> Option<u32> {
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

/// Whether a snapshot, by the owner of its root directory, is a shifted copy for a container with this root.
///
/// containerd shifts the root directory too, and the root directory of no image belongs to a user that a namespace is mapped
/// to. With a mapping to the host's root, a shifted snapshot looks like any other, so it is not accepted.
pub fn is_shifted(owner: (u32, u32), is_local: bool, root: (u32, u32)) -> bool {
    is_local && owner == root && root.0 != 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn root(users: Option<&str>, groups: Option<&str>) -> Result<Option<(u32, u32)>, InvalidMapping> {
        let given = [(UID_MAPPING, users), (GID_MAPPING, groups)];
        let labels = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        mapped_root(&labels.collect())
    }

    #[test]
    fn the_mapped_root_is_read_from_the_labels() {
        assert_eq!(root(None, None).unwrap(), None);
        assert_eq!(root(Some("0:1000:65536"), Some("0:2000:65536")).unwrap(), Some((1000, 2000)));
        assert_eq!(root(Some("1:100000:9,0:5:1"), Some("0:0:1")).unwrap(), Some((5, 0)));
    }

    #[test]
    fn an_invalid_mapping_is_refused() {
        let valid = Some("0:1000:65536");
        for invalid in
            ["", "0", "0:1", "0:1:2:3", "0:-1:2", "a:b:c", "1:1000:5", "0:1000:0", "0:4294967295:2", "0:1:2,"]
        {
            for (users, groups) in [(Some(invalid), valid), (valid, Some(invalid))] {
                let error = root(users, groups).unwrap_err();
                assert!(error.to_string().contains("mapping"), "{invalid}: {error}");
            }
        }
        for (users, groups) in [(None, valid), (valid, None)] {
            assert!(root(users, groups).is_err());
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
