//! Other ways to publish a bundle: as a tar file, as an artifact in the image's registry, and exported to other formats.

use std::time::Duration;

use anyhow::ensure;
use api::proto::RequestState;
use bundles::bundle::Bundle;
use bundles::trace::Trace;
use testbed::node::{Node, NodeSpec};
use testbed::process::{binary, run};
use testbed::site::{Site, label, with_round_trip};

use crate::support::{FILES, READ_ALL, check_cache, files, requested_paths};

#[test]
fn a_bundle_is_published_as_tar_file_and_artifact_and_exported() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = files()?;
        let reference = site.publish(&image).await?;
        let first = Node::start(&site, "first", NodeSpec::default()).await?;
        let trace = first.record(&reference, &READ_ALL)?;
        drop(first);
        let file = site.build_bundle(&[&trace])?;
        let text = |path: &std::path::Path| path.display().to_string();

        // `cvmfs_server ingest` would unpack it; the testbed's publisher copies what `tar` has unpacked.
        let (tarball, tree) = (site.directory.path().join("bundle.tar"), site.directory.subdirectory("unpacked")?);
        run(binary("cvmfs-prefetch")?, &["bundle", "push", &text(&file), "--tarball", &text(&tarball)])?;
        run("tar", &["--extract", "--file", &text(&tarball), "--directory", &text(&tree)])?;
        site.put_bundles(&tree)?;
        let second = Node::start(&site, "second", NodeSpec::default()).await?;
        second.pull(&reference).await?;
        let requests = second.wait_for_prefetch(&reference).await?;
        ensure!(requests.len() == 1 && requests[0].state() == RequestState::Done, "{requests:?}");
        ensure!(check_cache(&site, &second)? >= Bundle::read(&file)?.objects.len());
        site.origin.take_requests();
        second.output(&reference, &READ_ALL).await?;
        let client = requested_paths(&site, label::CLIENT);
        ensure!(client.is_empty(), "the start requested {client:?}");

        run(binary("cvmfs-prefetch")?, &["bundle", "push", &text(&file), "--registry", "--plain-http"])?;
        let fetched = site.directory.path().join("fetched.bundle");
        run(binary("cvmfs-prefetch")?, &["bundle", "pull", &reference, "--output", &text(&fetched), "--plain-http"])?;
        ensure!(Bundle::read(&fetched)? == Bundle::read(&file)?);

        let export = |arguments: &[&str]| {
            run(binary("cvmfs-prefetch")?, &[&["bundle", "export", &text(&file), "--format"], arguments].concat())
        };
        let paths = export(&["nydus"])?;
        let paths: Vec<&str> = paths.lines().collect();
        ensure!(paths.len() > FILES && paths.contains(&"/data/042"), "{paths:?}");
        let (record, imported) = (site.directory.path().join("record"), site.directory.path().join("imported.trace"));
        export(&["stargz", "--output", &text(&record)])?;
        let import = ["trace", "import", &text(&record), "--format", "stargz", "--plain-http", "--image", &reference];
        run(binary("cvmfs-prefetch")?, &[&import[..], &["--output", &text(&imported)]].concat())?;
        let names: Vec<String> = Trace::read(&imported)?.files.iter().map(|file| file.path.to_string()).collect();
        ensure!(names == paths, "{names:?} instead of {paths:?}");
        let native = site.directory.subdirectory("native")?;
        let made = export(&["native", "--trigger", paths[0], "--output", &text(&native)])?;
        let content: serde_json::Value = serde_json::from_slice(&std::fs::read(made.trim())?)?;
        let listed = content["dependencies"].as_array().map(Vec::len);
        ensure!(listed == Some(paths.len() - 1), "{listed:?} of {} paths", paths.len());
        Ok(())
    });
}
