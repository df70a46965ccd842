//! Overlayfs over the mount, as in a snapshotter.

use std::os::unix::fs::PermissionsExt;

use nix::mount::{MsFlags, mount};
use testbed::namespace::{self, SiteDirectory};

use super::fixture::{self, listing, path_of};

#[test]
fn overlayfs_over_the_mount_reads_copies_up_and_deletes() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, client) = fixture::mount(&site);
        let listing = listing()?;
        let layers: Vec<_> = listing.iter().filter(|listed| listed.path.ends_with("/layerfs")).collect();
        assert_eq!(layers.len(), 3);
        let script = listing.iter().find(|listed| listed.path.ends_with("layerfs/app/run.sh")).unwrap();
        // The layer with the script on top, the others below it.
        let mut lower: Vec<_> = layers.iter().filter(|layer| script.path.starts_with(&layer.path)).collect();
        lower.extend(layers.iter().filter(|layer| !script.path.starts_with(&layer.path)));
        let lower =
            lower.iter().map(|layer| path_of(&client, layer).display().to_string()).collect::<Vec<_>>().join(":");
        let (upper, work, merged) =
            (site.subdirectory("upper")?, site.subdirectory("work")?, site.subdirectory("merged")?);
        let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;

        let path = merged.join("app/run.sh");
        let content = std::fs::read(&path)?;
        assert_eq!(content, std::fs::read(path_of(&client, script))?);
        // A change of mode copies the file up, with its content.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        assert_eq!(std::fs::read(upper.join("app/run.sh"))?, content);
        std::fs::write(&path, "changed")?;
        assert_eq!(std::fs::read(path_of(&client, script))?, content);
        std::fs::remove_file(&path)?;
        assert!(!path.exists());
        std::fs::create_dir(merged.join("new"))?;
        let names = |directory: &std::path::Path| -> std::collections::BTreeSet<_> {
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let merged_names = names(&merged);
        for layer in &layers {
            assert!(names(&path_of(&client, layer)).is_subset(&merged_names), "{merged_names:?}");
        }
        assert!(merged_names.contains(std::ffi::OsStr::new("new")));
        assert_eq!(origin.requests().iter().filter(|request| request.status != 200).count(), 0);
        Ok(())
    });
}
