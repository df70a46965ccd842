//! Everything that comes before measuring: images in registry and repository, traces of earlier runs, bundles made of these.

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

use super::ready::{answered, free_port};
use super::workloads::{Ready, Workload};

/// How many runs are recorded. None of them is measured.
const TRACES: usize = 3;

/// What is known of a workload before it is measured. Bytes are as they are transferred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) workload: String,
    /// The image's compressed layers.
    pub(super) image_bytes: u64,
    /// Files that a run uses.
    pub(super) files: usize,
    /// The bundle's objects, and how many of them are in packs.
    pub(super) objects: usize,
    pub(super) packed: usize,
    pub(super) packs: usize,
    pub(super) bundle_bytes: u64,
    pub(super) raw_bytes: u64,
    /// What a run needs, and shares of it, for bundles of the other traces: see `cvmfs-prefetch evaluate`.
    pub(super) needed_bytes: f64,
    pub(super) coverage: f64,
    pub(super) byte_coverage: f64,
    /// Share of the bundle's bytes that a run does not need.
    pub(super) waste: f64,
}

/// A workload that can be measured.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) workload: &'static Workload,
    pub(super) reference: String,
    /// For [`Prepared::native`], from the mount on; the first is what triggers the others.
    files: Vec<PathBuf>,
    bundle: Bundle,
}

impl Prepared {
    /// Publishes image and bundle; records, if it must.
    pub(super) async fn prepare(
        site: &mut Site,
        recorder: &mut Option<Node>,
        workload: &'static Workload,
        anew: bool,
    ) -> Result<(Self, Facts)> {
        eprintln!("{}: image, traces, bundle ...", workload.name);
        let image = (workload.image)(&image_cache()?)?;
        let reference = site.publish(&image).await?;
        let traces = traces(site, recorder, workload, &image, &reference, anew).await?;
        let paths: Vec<&Path> = traces.iter().map(PathBuf::as_path).collect();
        let file = site.build_bundle(&paths)?;
        let bundle = site.publish_packed(&file)?;
        let facts = facts(site, workload, &image, &traces, &bundle)?;
        let files = files(&bundle, &Trace::read(&traces[0])?)?;
        Ok((Self { workload, reference, files, bundle }, facts))
    }

    /// The client's own kind of bundle for it.
    pub(super) fn native(&self, mount: &Path) -> Result<NativeBundle> {
        let (trigger, files) = self.files.split_first().context("a container uses files")?;
        let trigger = format!("/{}", trigger.to_str().context("the trigger's path is no text")?);
        Ok(NativeBundle { trigger, mount: mount.to_owned(), files: files.to_vec() })
    }

    /// What a run opens, below the mount.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Name by which the prefetch daemon knows the image.
    pub(super) fn chain_id(&self) -> String {
        self.bundle.image.chain_id.to_string()
    }
}

/// Copies of traces for this site; recorded if there are none of the same image and command.
async fn traces(
    site: &Site,
    recorder: &mut Option<Node>,
    workload: &Workload,
    image: &Image,
    reference: &str,
    anew: bool,
) -> Result<Vec<PathBuf>> {
    let cache = image_cache()?;
    let what = format!("{TRACES} {}.{} {} {:?}", FORMAT.major, FORMAT.minor, image.chain_id(), workload.command(0));
    let key = Digest::of(what.as_bytes()).hex()[..12].to_owned();
    let name = format!("traces-{}", workload.name);
    let place = cache.join(format!("{name}-{key}"));
    if anew && place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    if !place.exists() && recorder.is_none() {
        let spec = NodeSpec { daemon: false, in_memory: true, ..NodeSpec::default() };
        *recorder = Some(Node::start(site, "recorder", spec).await?);
    }
    let place = cached(&cache, &name, &key, |partial| {
        let node = recorder.as_ref().context("traces have gone while they were looked at")?;
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
            let mut trace = Trace::read(&place.join(&name))?;
            ensure!(trace.is_complete(), "{}: a trace is incomplete: {:?}", workload.name, trace.faults());
            // The registry of the site that recorded it is gone.
            reference.clone_into(&mut trace.image.reference);
            let copy = directory.join(name);
            std::fs::write(&copy, trace.to_bytes()?)?;
            Ok(copy)
        })
        .collect()
}

fn record(node: &Node, workload: &Workload, reference: &str, number: usize) -> Result<PathBuf> {
    let port = free_port()?;
    let visitor = (workload.ready == Ready::Port).then(|| tokio::spawn(answered(port)));
    let command = workload.command(port);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    // Ports differ, and are no other kind of work.
    let name = format!("{}-{number}", workload.name);
    let trace = node.record_as(&name, reference, &command, &["--profile", workload.name]);
    if let Some(visitor) = visitor {
        visitor.abort();
    }
    let trace = trace?;
    let end = Trace::read(&trace)?.end;
    ensure!(end == End::Exited(0), "{}: what was recorded ended otherwise: {end}", workload.name);
    Ok(trace)
}

fn facts(site: &Site, workload: &Workload, image: &Image, traces: &[PathBuf], bundle: &Bundle) -> Result<Facts> {
    let said: Value = serde_json::from_str(&run_command(site.builder("evaluate")?.arg("--json").args(traces))?)?;
    let fit = &said["asked"];
    let value = |what: &Value| what.as_f64().with_context(|| format!("no such figure in {said}"));
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
        // Of all traces together.
        needed_bytes: value(&fit["needed"]["bytes"])? / traces.len() as f64,
        coverage: value(&fit["coverage"])?,
        byte_coverage: value(&fit["byte_coverage"])?,
        waste: value(&fit["waste"])?,
    })
}

/// Files of a bundle below the mount, in the order of need, but the first program that ran before all others.
fn files(bundle: &Bundle, trace: &Trace) -> Result<Vec<PathBuf>> {
    let program = trace.files.iter().find(|used| used.how == Use::Exec).context("the trace has no program")?;
    let objects = || bundle.objects.iter().filter(|object| object.kind == ObjectKind::File);
    let is_program = |path: Option<bundles::path::RootPath>| path.is_some_and(|path| path == program.path);
    let first = objects().find(|object| is_program(object.container_path()));
    let first = first.with_context(|| format!("{} is not in the bundle", program.path))?;
    let below = |object: &bundles::bundle::BundleObject| PathBuf::from(object.path.to_string().trim_start_matches('/'));
    let others = objects().filter(|object| object.path != first.path).map(below);
    Ok([below(first)].into_iter().chain(others).collect())
}
