//! A trace contains nothing outside the image and CVMFS, only the number of excluded files.

use std::fs;

use anyhow::{Result, ensure};
use bundles::trace::{End, ExcludedReason};
use nix::mount::{MsFlags, mount};
use tracer_ebpf::Options;

use crate::test_container::{TestContainer, run, write};

#[test]
fn volumes_and_host_files_are_excluded_and_counted() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/mine", "m")]))?;
    let data = container.scratch.path().join("data");
    fs::create_dir(&data)?;
    for name in ["thesis", "grades"] {
        fs::write(data.join(name), name)?;
    }
    mount(Some(&data), &container.root.join("mnt"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let recorded = container.record(Options { absent_paths: true, listed_directories: true, ..Options::default() })?;
    let script = "/bin/cat /mnt/thesis /mnt/grades /etc/mine /proc/self/status; [ -e /mnt/secret ]; echo /mnt/*";
    run(container.command(&[], &["/bin/bash", "-c", script]))?;
    let trace = recorded.stop(End::Exited(0))?;
    let text = serde_json::to_string(&trace)?;
    for secret in ["thesis", "grades", "secret", "/mnt", "/proc", "data"] {
        ensure!(!text.contains(secret), "{secret} is in {text}");
    }
    ensure!(text.contains("/etc/mine") && trace.command.is_empty());
    let counted: u64 = trace.excluded.by_reason().map(|(_, count)| count).sum();
    // At least the two files of the volume, by name or by content, and the one in /proc.
    ensure!(counted >= 3, "{:?}", trace.excluded);
    ensure!(trace.excluded.by_reason().any(|(reason, _)| reason == ExcludedReason::OtherFileSystem));
    Ok(())
}
