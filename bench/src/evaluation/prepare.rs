//! Preparation: publishes images, records traces (or reuses those of earlier runs) and builds the bundles.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bundles::bundle::Bundle;
use bundles::image::Digest;
use bundles::object::ObjectKind;
use bundles::trace::{End, FORMAT, Trace, Use};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testbed::client::NativeBundle;
use testbed::images::{Image, cached};
use testbed::node::{Node, NodeSpec};
use testbed::process::run_command;
use testbed::site::{Site, image_cache};

use super::ready::{free_port, wait_for_http};
use super::workloads::{Ready, Workload};

/// Recorded runs per workload. Recorded runs are not measured.
const TRACES: usize = 3;

/// Size and quality of a workload's image and bundle. Part of the JSON records. Bytes are as transferred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) workload: String,
    /// Compressed size of the image's layers.
    pub(super) image_bytes: u64,
    /// Files that one run uses.
    pub(super) files: usize,
    /// Objects of the bundle, and those of them that are in packs.
    pub(super) objects: usize,
    pub(super) packed: usize,
    pub(super) packs: usize,
    pub(super) bundle_bytes: u64,
    pub(super) raw_bytes: u64,
    /// Bytes that a run needs, and the share of them in a bundle of the other traces: see `cvmfs-prefetch bundle evaluate`.
    pub(super) needed_bytes: f64,
    pub(super) coverage: f64,
    pub(super) byte_coverage: f64,
    /// Share of the bundle's bytes that a run does not need.
    pub(super) waste: f64,
}

/// A workload that is ready to be measured.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) workload: &'static Workload,
    pub(super) reference: String,
    /// Files below the mount; opening the first triggers the others in [`Prepared::native`].
    files: Vec<PathBuf>,
    bundle: Bundle,
}

impl Prepared {
    /// Publishes image and bundle; records traces if there are none.
    pub(super) async fn prepare(
        site: &mut Site,
        recorder: &mut Option<Node>,
        workload: &'static Workload,
        force_record: bool,
    ) -> Result<(Self, Facts)> {
        eprintln!("{}: image, traces, bundle ...", workload.name);
        let image = (workload.image)(&image_cache()?)?;
        let reference = site.publish(&image).await?;
        let traces = traces(site, recorder, workload, &image, &reference, force_record).await?;
        let paths: Vec<&Path> = traces.iter().map(PathBuf::as_path).collect();
        let file = site.build_bundle(&paths)?;
        let bundle = site.publish_packed(&file)?;
        let facts = facts(site, workload, &image, &traces, &bundle)?;
        let files = files(&bundle, &Trace::read(&traces[0])?)?;
        Ok((Self { workload, reference, files, bundle }, facts))
    }

    /// The same files as a bundle of the CVMFS client's own kind.
    pub(super) fn native(&self, mount: &Path) -> Result<NativeBundle> {
        let (trigger, files) = self.files.split_first().context("a container uses files")?;
        let trigger = format!("/{}", trigger.to_str().context("the trigger's path is not UTF-8")?);
        Ok(NativeBundle { trigger, mount: mount.to_owned(), files: files.to_vec() })
    }

    /// Files that a run opens, below the mount.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The chain ID by which the prefetch daemon knows the image.
    pub(super) fn chain_id(&self) -> String {
        self.bundle.image.chain_id.to_string()
    }
}

/// Traces of this image and command, recorded if the cache has none; copied with this site's image reference.
async fn traces(
    site: &Site,
    recorder: &mut Option<Node>,
    workload: &Workload,
    image: &Image,
    reference: &str,
    force_record: bool,
) -> Result<Vec<PathBuf>> {
    let cache = image_cache()?;
    let identity = format!("{TRACES} {}.{} {} {:?}", FORMAT.major, FORMAT.minor, image.chain_id(), workload.command(0));
    let key = Digest::sha256(identity.as_bytes()).hex()[..12].to_owned();
    let name = format!("traces-{}", workload.name);
    let cached_traces = cache.join(format!("{name}-{key}"));
    if force_record && cached_traces.exists() {
        std::fs::remove_dir_all(&cached_traces)?;
    }
    if !cached_traces.exists() && recorder.is_none() {
        let spec = NodeSpec { daemon: false, in_memory: true, ..NodeSpec::default() };
        *recorder = Some(Node::start(site, "recorder", spec).await?);
    }
    let cached_traces = cached(&cache, &name, &key, |partial| {
        let node = recorder.as_ref().context("the cached traces were removed meanwhile")?;
        (0..TRACES).try_for_each(|number| {
            let trace = record(node, workload, reference, number)?;
            std::fs::copy(trace, partial.join(format!("{number}.trace")))?;
            Ok(())
        })
    })?;
    let directory = site.directory.subdirectory(&name)?;
    (0..TRACES)
        .map(|number| {
            let name = format!("{number}.trace");
            let mut trace = Trace::read(&cached_traces.join(&name))?;
            ensure!(trace.is_complete(), "{}: a trace is incomplete: {:?}", workload.name, trace.faults());
            // It names the registry of the site that recorded it, which no longer exists.
            reference.clone_into(&mut trace.image.reference);
            let copy = directory.join(name);
            std::fs::write(&copy, trace.to_bytes()?)?;
            Ok(copy)
        })
        .collect()
}

fn record(node: &Node, workload: &Workload, reference: &str, number: usize) -> Result<PathBuf> {
    let port = free_port()?;
    let http_client = (workload.ready == Ready::Port).then(|| tokio::spawn(wait_for_http(port)));
    let command = workload.command(port);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    // The commands differ in their port, but all runs belong to one profile.
    let name = format!("{}-{number}", workload.name);
    let trace = node.record_as(&name, reference, &command, &["--profile", workload.name]);
    if let Some(http_client) = http_client {
        http_client.abort();
    }
    let trace = trace?;
    let end = Trace::read(&trace)?.end;
    ensure!(end == End::Exited(0), "{}: the recorded run ended unexpectedly: {end}", workload.name);
    Ok(trace)
}

fn facts(site: &Site, workload: &Workload, image: &Image, traces: &[PathBuf], bundle: &Bundle) -> Result<Facts> {
    let evaluation: Value = serde_json::from_str(&run_command(site.builder("evaluate")?.arg("--json").args(traces))?)?;
    let fit = &evaluation["with_profile"];
    let value = |field: &Value| field.as_f64().with_context(|| format!("missing figure in {evaluation}"));
    let (bundle_bytes, raw_bytes) = bundle.bytes();
    Ok(Facts {
        workload: workload.name.to_owned(),
        image_bytes: image.layers.iter().map(|layer| layer.size).sum(),
        files: Site::files_in(&traces[0])?,
        objects: bundle.objects.len(),
        packed: bundle.objects.iter().filter(|object| object.packed.is_some()).count(),
        packs: bundle.packs.len(),
        bundle_bytes,
        raw_bytes,
        // The sum over all traces.
        needed_bytes: value(&fit["needed"]["bytes"])? / traces.len() as f64,
        coverage: value(&fit["coverage"])?,
        byte_coverage: value(&fit["byte_coverage"])?,
        waste: value(&fit["waste"])?,
    })
}

/// Files of a bundle below the mount in the order of need, with the container's program first.
fn files(bundle: &Bundle, trace: &Trace) -> Result<Vec<PathBuf>> {
    let program = trace.files.iter().find(|used| used.how == Use::Exec).context("the trace has no executed file")?;
    let objects = || bundle.objects.iter().filter(|object| object.kind == ObjectKind::File);
    let is_program = |path: Option<bundles::path::RootPath>| path.is_some_and(|path| path == program.path);
    let first = objects().find(|object| is_program(object.container_path()));
    let first = first.with_context(|| format!("{} is not in the bundle", program.path))?;
    let below = |object: &bundles::bundle::BundleObject| PathBuf::from(object.path.to_string().trim_start_matches('/'));
    let others = objects().filter(|object| object.path != first.path).map(below);
    Ok([below(first)].into_iter().chain(others).collect())
}
