//! A bundle's other ways to the nodes: as a tar file into the repository, and beside the image in its registry.

use std::time::Duration;

use anyhow::ensure;
use bundles::bundle::Bundle;
use prefetcher::api::RequestState;
use testbed::node::{Node, NodeSpec};
use testbed::process::{binary, run};
use testbed::site::{Site, label, with_round_trip};

use crate::support::{READ_ALL, asked, check_cache, files};

#[test]
fn a_bundle_that_came_as_a_tar_file_is_found_and_one_from_the_registry_is_the_same() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = files()?;
        let reference = site.publish(&image).await?;
        let first = Node::start(&site, "first", NodeSpec::default()).await?;
        let trace = first.record(&reference, &READ_ALL)?;
        drop(first);
        let file = site.build_bundle(&[&trace])?;
        let text = |path: &std::path::Path| path.display().to_string();

        // `cvmfs_server ingest` unpacks it; the testbed's publisher takes what `tar` unpacked.
        let (tarball, tree) = (site.directory.path().join("bundle.tar"), site.directory.subdirectory("unpacked")?);
        run(binary("cvmfs-prefetch")?, &["publish", &text(&file), "--tarball", &text(&tarball)])?;
        run("tar", &["--extract", "--file", &text(&tarball), "--directory", &text(&tree)])?;
        site.put_bundles(&tree)?;
        let second = Node::start(&site, "second", NodeSpec::default()).await?;
        second.pull(&reference).await?;
        let requests = second.prefetched().await?;
        ensure!(requests.len() == 1 && requests[0].state() == RequestState::Done, "{requests:?}");
        ensure!(check_cache(&site, &second)? >= Bundle::read(&file)?.objects.len());
        site.origin.take_requests();
        second.output(&reference, &READ_ALL).await?;
        let client = asked(&site, label::CLIENT);
        ensure!(client.is_empty(), "the start asked for {client:?}");

        run(binary("cvmfs-prefetch")?, &["publish", &text(&file), "--registry", "--plain-http"])?;
        let fetched = site.directory.path().join("fetched.bundle");
        run(binary("cvmfs-prefetch")?, &["fetch", &reference, "--output", &text(&fetched), "--plain-http"])?;
        ensure!(Bundle::read(&fetched)? == Bundle::read(&file)?);
        Ok(())
    });
}
