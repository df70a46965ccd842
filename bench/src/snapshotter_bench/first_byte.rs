//! How soon after the first sign of an image the network is asked for what it needs.
//!
//! Some images are new to the node, and have bundles in the repository. Of each, the Prepare of the lowest layer comes to the
//! plugin, as at the beginning of a pull; it ends when the server hears of the daemon.

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
/// The label by which a pull says of which image a layer is.
const MANIFEST: &str = "containerd.io/snapshot/cri.manifest-digest";
/// No request takes so long.
const LONG: Duration = Duration::from_secs(20);

/// Publishes images with a bundle each. No node that runs already sees them.
pub(super) async fn publish(site: &mut Site) -> Result<Vec<Chain>> {
    let tree = site.directory.subdirectory("new-images")?;
    let mut chains = Vec::new();
    for number in 0..IMAGES {
        let chain = Chain::publish(site, &format!("demo/new-{number}"), LAYERS).await?;
        let trace = tree.with_extension("cpft");
        std::fs::write(&trace, trace_of(&chain)?.to_bytes()?)?;
        let bundle = site.build_bundle(&[&trace])?.display().to_string();
        run(binary("cvmfs-prefetch")?, &["publish", &bundle, "--tree", &tree.display().to_string()])?;
        chains.push(chain);
    }
    site.put_bundles(&tree)?;
    Ok(chains)
}

/// A run that used one file, of the topmost layer.
fn trace_of(chain: &Chain) -> Result<Trace> {
    let image =
        ImageId { chain_id: chain.chain_id(), manifest: Some(chain.manifest()), reference: chain.reference.clone() };
    let file = FileUse::of(RootPath::new(format!("/{}", Chain::file(LAYERS - 1)))?);
    Ok(Trace { files: vec![file], end: End::Exited(0), ..Trace::of(image) })
}

/// Milliseconds from the Prepare to the daemon's first request at the server. The node's daemon runs.
pub(super) async fn measure(site: &Site, node: &Node, chains: &[Chain]) -> Result<Quantiles> {
    let (plugin, socket) = node.start_plugin("first-byte", Some(&node.prefetch_socket()))?;
    let mut snapshotter = Snapshotter::connect(&socket, SNAPSHOTTER).await?;
    eprintln!("the beginning of a pull of {} images ...", chains.len());
    let mut found = Vec::new();
    for chain in chains {
        let layers = chain.layers()?;
        let (chain_id, digest) = layers.first().context("an image has layers")?;
        let manifest = [(MANIFEST, chain.manifest().to_string())];
        site.origin.take_requests();
        let called = site.origin.now();
        snapshotter.take_layer(chain_id, digest, "", &manifest).await?;
        let heard = first_request(site).await.with_context(|| format!("{}: {}", chain.reference, plugin.log()))?;
        found.push(heard.saturating_sub(called).as_secs_f64() * 1e3);
        node.prefetched().await?;
    }
    Quantiles::of(found).context("nothing was measured")
}

/// When the server heard of the daemon.
async fn first_request(site: &Site) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let requests = site.origin.requests();
        let of_daemon = requests.iter().filter(|request| request.client == label::DAEMON);
        if let Some(first) = of_daemon.map(|request| request.started).min() {
            return Ok(first);
        }
        ensure!(begun.elapsed() < LONG, "the daemon asked for nothing");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
