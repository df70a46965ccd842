//! Coverage and waste of bundles of real traces for starts they were not built from, and the size of their packs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundles::bundle::Bundle;
use bundles::pack::PackFile;
use serde_json::Value;
use testbed::images::{self, Image};
use testbed::node::{Node, NodeSpec};
use testbed::process::run_command;
use testbed::site::{Site, image_cache};

use crate::report::Target;

/// Values of `--min-share`; the first is the default.
const SHARES: [&str; 6] = ["0.25", "0.1", "0.4", "0.6", "0.8", "1"];

/// Values of `--max-object`; the first is the default.
const LARGEST: [u64; 4] = [64 << 10, 16 << 10, 32 << 10, 128 << 10];

/// What five users of the Python image do after the common part.
const PYTHON: [&str; 5] = [
    "pass",
    "import numpy.fft; numpy.fft.fft([1, 2])",
    "import yaml; yaml.safe_dump({'a': [1, 2]})",
    "import jinja2; jinja2.Template('{% for n in range(3) %}{{ n }}{% endfor %}').render()",
    "import this, encodings.cp1252",
];

/// An image and the commands of its users.
struct Work {
    image: Image,
    commands: Vec<Vec<String>>,
}

pub(super) async fn measure(site: &mut Site) -> Result<Vec<Target>> {
    let cache = image_cache()?;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let python = |code: &&str| words(&["python3", "-c", &format!("exec(open('/opt/app/main.py').read())\n{code}")]);
    let gcc = |(number, (name, source)): (usize, &(&str, &str))| {
        let compile = format!(
            "cat > /tmp/{name}.c <<'END'\n{source}\nEND\ngcc -O{} -o /tmp/{name} /tmp/{name}.c -lm && /tmp/{name}",
            number % 3
        );
        words(&["/bin/sh", "-c", &compile])
    };
    let python = Work { image: images::python(&cache)?, commands: PYTHON.iter().map(python).collect() };
    let programs = images::PROGRAMS.iter().enumerate();
    let gcc = Work { image: images::gcc(&cache)?, commands: programs.map(gcc).collect() };
    let mut targets = Vec::new();
    let mut sizes = PackSizes::default();
    for work in [python, gcc] {
        let (work_targets, work_sizes) = evaluate(site, &work).await?;
        targets.extend(work_targets);
        sizes.packs += work_sizes.packs;
        sizes.layers += work_sizes.layers;
    }
    targets.push(Target::at_most(
        "packs / compressed layers, all images",
        sizes.packs as f64 / sizes.layers as f64,
        0.05,
    ));
    Ok(targets)
}

/// Bytes of packs, and of the compressed layers of the same images.
#[derive(Debug, Clone, Copy, Default)]
struct PackSizes {
    packs: u64,
    layers: u64,
}

async fn evaluate(site: &mut Site, work: &Work) -> Result<(Vec<Target>, PackSizes)> {
    let image = site.publish(&work.image).await?;
    let name = work.image.repository.trim_start_matches("demo/").to_owned();
    let node = Node::start(site, &format!("{name}-node"), NodeSpec::default()).await?;
    let mut traces = Vec::new();
    for (number, command) in work.commands.iter().enumerate() {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        traces.push(node.record_as(&format!("trace-{number}"), &image, &command, &[])?);
    }
    println!("\n{name}: {} traces, each evaluated against a bundle of the others", traces.len());
    println!("  min share            coverage   byte coverage          waste");
    let mut by_default = Value::Null;
    for share in SHARES {
        let output = run_command(site.builder("evaluate")?.args(["--json", "--min-share", share]).args(&traces))?;
        let common = serde_json::from_str::<Value>(&output)?["common_only"].clone();
        let percent = |field: &str| format!("{:.2} %", 100.0 * common[field].as_f64().unwrap_or(f64::NAN));
        let shares = [percent("coverage"), percent("byte_coverage"), percent("waste")];
        println!("{share:>13} {:>17} {:>15} {:>14}", shares[0], shares[1], shares[2]);
        if by_default.is_null() {
            by_default = common;
        }
    }
    let value = |field: &str| by_default[field].as_f64().with_context(|| format!("no {field} in {by_default}"));
    let paths: Vec<&Path> = traces.iter().map(PathBuf::as_path).collect();
    let file = site.build_bundle(&paths)?;
    let bundle = Bundle::read(&file)?;
    let (stored, raw) = bundle.bytes();
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let profiles: Vec<_> =
        bundle.profiles.iter().map(|profile| format!("{} ({})", profile.name, profile.traces)).collect();
    println!(
        "  bundle of all traces: {} objects, {:.1} MB of {:.1} MB raw",
        bundle.objects.len(),
        mega(stored),
        mega(raw)
    );
    println!("  profiles: {}", profiles.join(", "));
    let packs = pack(site, &work.image, &file)?;
    let targets = vec![
        Target::at_most(&format!("{name}: missing share of the needed objects"), 1.0 - value("coverage")?, 0.01),
        Target::at_most(&format!("{name}: wasted share of the bytes"), value("waste")?, 0.05),
    ];
    Ok((targets, packs))
}

/// Packs a bundle with each value of `--max-object`; returns the size with the default.
fn pack(site: &Site, image: &Image, file: &Path) -> Result<PackSizes> {
    let packs = file.with_extension("packs");
    let layers: u64 = image.layers.iter().map(|layer| layer.size).sum();
    let mut by_default = None;
    for largest in LARGEST {
        let mut pack = site.builder("pack")?;
        run_command(pack.arg(file).args(["--max-object", &largest.to_string(), "--output"]).arg(&packs))?;
        let built = PackFile::all_below(&packs)?;
        std::fs::remove_dir_all(&packs)?;
        let bytes: u64 = built.iter().map(|pack| pack.reference().size).sum();
        let objects: usize = built.iter().map(|pack| pack.index().objects().len()).sum();
        let (share, mega) = (100.0 * bytes as f64 / layers as f64, bytes as f64 / 1e6);
        let largest = largest >> 10;
        let count = built.len();
        println!(
            "  objects of up to {largest:>3} KiB: {objects} in {count} packs, {mega:.1} MB, {share:.1} % of the layers"
        );
        by_default.get_or_insert(bytes);
    }
    Ok(PackSizes { packs: by_default.unwrap_or_default(), layers })
}
