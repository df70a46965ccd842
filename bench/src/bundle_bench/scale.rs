//! Time to build a large bundle of many traces and to load one, and bytes per object.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bundles::bundle::Bundle;
use bundles::path::RootPath;
use bundles::trace::{End, FileUse, Phases, Trace};
use nix::sys::resource::{UsageWho, getrusage};
use testbed::images::{self, ImageBuilder};
use testbed::process::run_command;
use testbed::site::{Site, image_cache};

use crate::report::Target;

const OBJECTS: usize = 50_000;
const TRACES: usize = 100;
/// Repetitions of the build; the median counts.
const BUILDS: usize = 3;
/// Objects of the bundle whose loading is timed, and repetitions.
const LOADED: usize = 5_000;
const LOADS: usize = 101;

pub(super) async fn measure(site: &mut Site) -> Result<Vec<Target>> {
    println!("publishing {OBJECTS} files, writing {TRACES} traces of all of them ...");
    let fill = |tar: &mut images::LayerTar| {
        tar.dir("usr", 0o755)?;
        (0..OBJECTS).try_for_each(|number| tar.file(path(number), 0o644, format!("content of file {number}\n")))
    };
    let cache = image_cache()?;
    let image = ImageBuilder::from(&images::busybox(&cache)?, "demo/many", "1")?.layer(fill).build(&cache)?;
    let reference = site.publish(&image).await?;
    let traces = traces(site, &reference, &image)?;

    let output = site.directory.path().join("large.bundle");
    let mut builds = Vec::new();
    for _ in 0..BUILDS {
        let started = Instant::now();
        run_command(site.builder("build")?.arg("--output").arg(&output).args(&traces))?;
        builds.push(started.elapsed());
    }
    builds.sort();
    let took = builds[BUILDS / 2];
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() as f64 / 1024.0;
    let mut bundle = Bundle::read(&output)?;
    ensure!(bundle.objects.len() >= OBJECTS, "only {} objects", bundle.objects.len());
    let bytes_per_object = std::fs::metadata(&output)?.len() as f64 / bundle.objects.len() as f64;
    println!("built in {builds:.2?} with a peak of {memory:.0} MiB, {bytes_per_object:.1} bytes per object");

    bundle.objects.truncate(LOADED);
    bundle.write(&output)?;
    let mut loads = (0..LOADS).map(|_| load(&output)).collect::<Result<Vec<_>>>()?;
    loads.sort();
    let load = loads[LOADS / 2].as_secs_f64() * 1e3;
    println!(
        "loading a bundle of {LOADED} objects and planning its first object takes {load:.2} ms (median of {LOADS})"
    );
    traces.iter().try_for_each(std::fs::remove_file)?;
    Ok(vec![
        Target::at_most(&format!("seconds to build {OBJECTS} objects from {TRACES} traces"), took.as_secs_f64(), 5.0),
        Target::at_most("peak MiB of the build", memory, 500.0),
        Target::at_most("bytes per object of a bundle", bytes_per_object, 60.0),
        Target::at_most(&format!("ms to load {LOADED} objects"), load, 5.0),
    ])
}

fn path(number: usize) -> String {
    format!("usr/lib/package-{:03}/module_{number:05}.py", number / 200)
}

/// Traces that use all files, each in its own order.
fn traces(site: &Site, reference: &str, image: &images::Image) -> Result<Vec<PathBuf>> {
    let id = bundles::image::ImageId {
        chain_id: image.chain_id(),
        manifest: Some(image.manifest_digest()),
        reference: reference.to_owned(),
    };
    let directory = site.directory.subdirectory("traces")?;
    let mut random = 1_u64;
    (0..TRACES)
        .map(|trace| {
            let mut at_us = 0;
            let mut uses = Vec::with_capacity(OBJECTS);
            for number in 0..OBJECTS {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                at_us += 20 + (random >> 60);
                let file = FileUse::new(RootPath::new(format!("/{}", path(number)))?);
                uses.push(FileUse { at_us: at_us + (random >> 50), ..file });
            }
            uses.sort_by_key(|file| file.at_us);
            let phases = Phases { start_up_us: 0, main_us: None };
            let trace_of =
                Trace { files: uses, phases, end: End::Exited(0), duration_us: at_us, ..Trace::new(id.clone()) };
            let file = directory.join(format!("{trace:03}.cpft"));
            std::fs::write(&file, trace_of.to_bytes()?)?;
            Ok(file)
        })
        .collect()
}

fn load(bundle: &std::path::Path) -> Result<Duration> {
    let started = Instant::now();
    let bundle = Bundle::read(bundle)?;
    let first = bundle.plan(None).into_iter().next();
    let took = started.elapsed();
    ensure!(first.is_some(), "nothing is planned");
    Ok(took)
}
