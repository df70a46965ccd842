//! The prefetch daemon without containers: a bundle in a registry, and a slow client.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::proto::{Image, PrefetchRequest, RequestState};
use bundles::bundle::Bundle;
use testbed::namespace::SiteDirectory;
use testbed::node::{Cvmfs, CvmfsSpec, Node, NodeSpec, daemon_client};
use testbed::process::{binary, run};
use testbed::site::{Site, label, with_round_trip};

use crate::support::{FILES, READ_ALL, files, requested_paths};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Builds a bundle without publishing it.
async fn unpublished(site: &mut Site) -> Result<std::path::PathBuf> {
    let reference = site.publish(&files()?).await?;
    let node = Node::start(site, "recorder", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
    let trace = node.record(&reference, &READ_ALL)?;
    site.build_bundle(&[&trace])
}

fn start(site: &Site, name: &str, daemon_options: String) -> Result<(Cvmfs, SiteDirectory)> {
    let directory = SiteDirectory::new(name)?;
    let spec = CvmfsSpec { daemon: true, daemon_options, ..CvmfsSpec::default() };
    Ok((Cvmfs::start(site, &directory, &spec)?, directory))
}

#[test]
fn a_bundle_in_a_registry_is_found_if_the_registry_is_configured() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let file = unpublished(&mut site).await?;
        let bundle = Bundle::read(&file)?;
        run(binary("cvmfs-prefetch")?, &["bundle", "push", &file.display().to_string(), "--registry", "--plain-http"])?;
        // As in the snapshotter's request during a pull.
        let manifest = bundle.image.manifest.context("the bundle names a manifest")?;
        let image = Image {
            manifest_digest: manifest.to_string(),
            reference: bundle.image.reference.clone(),
            ..Image::default()
        };
        let registries = format!("registries = [\"http://{}\"]", site.registry.address());
        for (name, options, expected) in
            [("unaware", String::new(), RequestState::NoBundle), ("aware", registries, RequestState::Done)]
        {
            let (_cvmfs, directory) = start(&site, name, options)?;
            let client = daemon_client(directory.path());
            let id = client.prefetch(image.clone()).await?;
            let status = client.wait(id, TIMEOUT).await?;
            ensure!(status.state() == expected && status.error.is_empty(), "{name}: {status:?}");
            if expected == RequestState::NoBundle {
                continue;
            }
            ensure!(status.bundle_source.starts_with("registry "), "{status:?}");
            let cache = directory.path().join("cache");
            let is_there = |cached: String| Path::new(&cache).join(cached).is_file();
            let missing = bundle.objects.iter().filter(|object| !is_there(object.hash.cache_path())).count();
            ensure!(missing == 0 && bundle.objects.len() >= FILES, "{missing} of {} missing", bundle.objects.len());
            // The second request finds the bundle in the store.
            let id = client.prefetch(image.clone()).await?;
            let status = client.wait(id, TIMEOUT).await?;
            ensure!(status.state() == RequestState::Done && status.bundle_source == "store", "{status:?}");
        }
        Ok(())
    });
}

#[test]
fn the_daemon_throttles_only_while_the_client_is_slow() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let file = unpublished(&mut site).await?;
        let bundle = std::fs::read(&file)?;
        let (cvmfs, directory) = start(&site, "node", "page_cache_threads = 0".to_owned())?;
        let client = daemon_client(directory.path());
        let log = || cvmfs.daemon.as_ref().map(|daemon| daemon.log()).unwrap_or_default();
        let logged = async |what: &str| -> Result<()> {
            let end = Instant::now() + TIMEOUT;
            while !log().contains(what) {
                ensure!(Instant::now() < end, "the daemon did not log {what:?}:\n{}", log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        // The request must not end during the test.
        site.daemon_link().cut();
        let id = client.submit(PrefetchRequest { bundle, ..PrefetchRequest::default() }).await?;
        cvmfs.client.hang()?;
        let result = logged("throttling: a CVMFS client answers late").await;
        cvmfs.client.resume()?;
        result?;
        logged("throttling ended").await?;
        ensure!(requested_paths(&site, label::DAEMON).is_empty(), "the request fetched something through the cut link");
        site.daemon_link().restore();
        let status = client.wait(id, TIMEOUT).await?;
        ensure!(status.state() == RequestState::Done, "{status:?}");
        Ok(())
    });
}
