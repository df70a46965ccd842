//! A trace holds nothing outside the image and CVMFS, and says how much that was.

use std::fs;

use anyhow::{Result, ensure};
use bundles::trace::{End, ExcludedReason};
use nix::mount::{MsFlags, mount};
use tracer_ebpf::Options;

use crate::site::{Site, run, write};

#[test]
fn volumes_and_the_hosts_files_are_left_out_and_counted() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/mine", "m")]))?;
    let data = site.scratch.path().join("data");
    fs::create_dir(&data)?;
    for name in ["thesis", "grades"] {
        fs::write(data.join(name), name)?;
    }
    mount(Some(&data), &site.root.join("mnt"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let recorded = site.record(Options { absent: true, directories: true, ..Options::default() })?;
    let script = "/bin/cat /mnt/thesis /mnt/grades /etc/mine /proc/self/status; [ -e /mnt/secret ]; echo /mnt/*";
    run(site.command(&[], &["/bin/bash", "-c", script]))?;
    let trace = recorded.stop(End::Exited(0))?;
    let text = serde_json::to_string(&trace)?;
    for secret in ["thesis", "grades", "secret", "/mnt", "/proc", "data"] {
        ensure!(!text.contains(secret), "{secret} is in {text}");
    }
    ensure!(text.contains("/etc/mine") && trace.command.is_empty());
    let counted: u64 = trace.excluded.by_reason().map(|(_, count)| count).sum();
    // Two of the volume, each by name and by content, and one of /proc; more if libraries looked at others.
    ensure!(counted >= 3, "{:?}", trace.excluded);
    ensure!(trace.excluded.by_reason().any(|(reason, _)| reason == ExcludedReason::OtherFileSystem));
    Ok(())
}
