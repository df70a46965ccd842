//! A host on which the CVMFS client is installed, with a `cvmfs_config` that is slow and prints nonsense.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::proto::{Image, RequestState};
use nix::mount::{MsFlags, mount};
use testbed::namespace::SiteDirectory;
use testbed::node::{Cvmfs, CvmfsSpec, Node, NodeSpec, daemon_client};
use testbed::site::{Site, with_round_trip};

use crate::support::{READ_ALL, check_cache, files, publish_bundle};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Installs the client's program and configuration directory in this run's mount namespace; returns the path of a file that
/// exists once the program has run.
fn install_client() -> Result<PathBuf> {
    let layers = SiteDirectory::new("host")?;
    let marker = layers.path().join("cvmfs_config-has-run");
    add_layer(&layers, "/usr/local/bin")?;
    let program = Path::new("/usr/local/bin/cvmfs_config");
    fs::write(program, format!("#!/bin/sh\ntouch {}\nsleep 1\necho 'no = showconfig of $CVMFS'\n", marker.display()))?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    add_layer(&layers, "/etc")?;
    fs::create_dir_all("/etc/cvmfs")?;
    // Without this, a test could pass because PATH does not contain the program.
    ensure!(Command::new("cvmfs_config").status()?.success() && marker.exists(), "cvmfs_config is not in PATH");
    fs::remove_file(&marker)?;
    Ok(marker)
}

/// Mounts a writable layer over a directory of the host.
fn add_layer(layers: &SiteDirectory, directory: &str) -> Result<()> {
    let name = directory.trim_start_matches('/').replace('/', "-");
    let upper = layers.subdirectory(&format!("{name}-upper"))?;
    let work = layers.subdirectory(&format!("{name}-work"))?;
    let options = format!("lowerdir={directory},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), directory, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("cannot mount a layer over {directory}"))
}

#[test]
fn a_node_of_the_testbed_does_not_use_the_hosts_cvmfs_client() {
    testbed::namespace::test(|| async {
        let marker = install_client()?;
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let first = Node::start(&site, "first", NodeSpec::default()).await?;
        let bundle = publish_bundle(&mut site, &first, &reference, &READ_ALL)?;
        drop(first);
        let second = Node::start(&site, "second", NodeSpec::default()).await?;
        second.pull(&reference).await?;
        let requests = second.wait_for_prefetch(&reference).await?;
        ensure!(requests.iter().all(|request| request.state() == RequestState::Done), "{requests:?}");
        ensure!(check_cache(&site, &second)? >= bundle.objects.len());
        ensure!(!marker.exists(), "the host's cvmfs_config was run");
        Ok(())
    });
}

#[test]
fn no_request_is_lost_while_the_daemon_reads_a_slow_configuration() {
    testbed::namespace::test(|| async {
        let marker = install_client()?;
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let node = Node::start(&site, "recorder", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        let bundle = publish_bundle(&mut site, &node, &reference, &READ_ALL)?;
        drop(node);
        let directory = SiteDirectory::new("node")?;
        let client_config = Some("/etc/cvmfs".into());
        let _cvmfs =
            Cvmfs::start(&site, &directory, &CvmfsSpec { daemon: true, client_config, ..CvmfsSpec::default() })?;
        let client = daemon_client(directory.path());
        let image = Image { chain_id: bundle.image.chain_id.to_string(), ..Image::default() };
        let id = client.prefetch(image).await?;
        let status = client.wait(id, TIMEOUT).await?;
        ensure!(status.state() == RequestState::Done, "{status:?}");
        ensure!(marker.exists(), "the daemon did not run cvmfs_config");
        Ok(())
    });
}
