//! Publishes and removes the image's bundle.

use std::path::PathBuf;

use anyhow::Result;
use bundles::layout::BUNDLES;
use testbed::images::PYTHON_COMMAND;
use testbed::node::{Node, NodeSpec};
use testbed::process::{binary, run};
use testbed::site::Site;

/// Recorded starts. Recorded starts are not measured.
const TRACES: [&str; 2] = ["first", "second"];

/// The two states of the repository's bundles.
#[derive(Debug)]
pub(super) struct Bundles {
    with: PathBuf,
    without: PathBuf,
    /// Files of the image that the program used.
    pub(super) files: usize,
}

impl Bundles {
    /// Records the program on a separate node and builds a bundle of the traces.
    pub(super) async fn make(site: &Site, reference: &str) -> Result<Self> {
        let node = Node::start(site, "recorder", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        let mut traces = Vec::new();
        for name in TRACES {
            traces.push(node.record_as(name, reference, &PYTHON_COMMAND, &[])?);
        }
        let files = Site::files_in(&traces[0])?;
        let traces: Vec<_> = traces.iter().map(PathBuf::as_path).collect();
        let bundle = site.build_bundle(&traces)?.display().to_string();
        let (with, without) = (site.directory.subdirectory("with")?, site.directory.subdirectory("without")?);
        run(binary("cvmfs-prefetch")?, &["bundle", "push", &bundle, "--tree", &with.display().to_string()])?;
        std::fs::create_dir(without.join(BUNDLES))?;
        Ok(Self { with, without, files })
    }

    /// Publishes the bundle, or removes it.
    pub(super) fn publish(&self, site: &mut Site, published: bool) -> Result<()> {
        site.put_bundles(if published { &self.with } else { &self.without })
    }
}
