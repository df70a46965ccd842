//! The delay from the first sign of an image to the daemon's first request.
//!
//! The node does not know the images; the repository has a bundle for each. For each image, the lowest layer is prepared, as at
//! the begin of a pull; the measurement ends with the daemon's first request at the server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bundles::image::ImageId;
use bundles::path::RootPath;
use bundles::trace::{End, FileUse, Trace};
use testbed::node::{Node, SNAPSHOTTER};
use testbed::process::{binary, run};
use testbed::site::{Site, label};

use super::calls::Snapshotter;
use super::chain::Chain;
use crate::statistics::Quantiles;

const IMAGES: usize = 20;
const LAYERS: usize = 3;
/// The label of a layer's Prepare with the digest of the image's manifest.
const MANIFEST: &str = "containerd.io/snapshot/cri.manifest-digest";
/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Publishes images with one bundle each. Nodes that already run do not see them.
pub(super) async fn publish(site: &mut Site) -> Result<Vec<Chain>> {
    let tree = site.directory.subdirectory("new-images")?;
    let mut chains = Vec::new();
    for number in 0..IMAGES {
        let chain = Chain::publish(site, &format!("demo/new-{number}"), LAYERS).await?;
        let trace = tree.with_extension("cpft");
        std::fs::write(&trace, trace_of(&chain)?.to_bytes()?)?;
        let bundle = site.build_bundle(&[&trace])?.display().to_string();
        run(binary("cvmfs-prefetch")?, &["bundle", "push", &bundle, "--tree", &tree.display().to_string()])?;
        chains.push(chain);
    }
    site.put_bundles(&tree)?;
    Ok(chains)
}

/// A trace of one file, of the top layer.
fn trace_of(chain: &Chain) -> Result<Trace> {
    let image =
        ImageId { chain_id: chain.chain_id(), manifest: Some(chain.manifest()), reference: chain.reference.clone() };
    let file = FileUse::new(RootPath::new(format!("/{}", Chain::file(LAYERS - 1)))?);
    Ok(Trace { files: vec![file], end: End::Exited(0), ..Trace::new(image) })
}

/// Measures milliseconds from Prepare to the daemon's first request at the server. The node's daemon must run.
pub(super) async fn measure(site: &Site, node: &Node, chains: &[Chain]) -> Result<Quantiles> {
    let (process, socket) = node.start_snapshotter("first-byte", Some(&node.prefetch_socket()))?;
    let mut snapshotter = Snapshotter::connect(&socket, SNAPSHOTTER).await?;
    eprintln!("the first Prepare of {} images ...", chains.len());
    let mut delays = Vec::new();
    for chain in chains {
        let layers = chain.layers()?;
        let (chain_id, digest) = layers.first().context("an image has layers")?;
        let manifest = [(MANIFEST, chain.manifest().to_string())];
        site.origin.take_requests();
        let begin = site.origin.now();
        snapshotter.prepare_layer(chain_id, digest, "", &manifest).await?;
        let first = first_request(site).await.with_context(|| format!("{}: {}", chain.reference, process.log()))?;
        delays.push(first.saturating_sub(begin).as_secs_f64() * 1e3);
        node.finished_requests().await?;
    }
    Quantiles::from_values(delays).context("nothing was measured")
}

/// Waits for the daemon's first request; returns its time.
async fn first_request(site: &Site) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let requests = site.origin.requests();
        let of_daemon = requests.iter().filter(|request| request.client == label::DAEMON);
        if let Some(first) = of_daemon.map(|request| request.started).min() {
            return Ok(first);
        }
        ensure!(started.elapsed() < TIMEOUT, "the daemon sent no request");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
