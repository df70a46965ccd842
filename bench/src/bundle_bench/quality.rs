//! What bundles of real traces are worth to a start that they were not made of, and what packs of them take.

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

/// Minimum shares to try; the first is the default.
const SHARES: [&str; 6] = ["0.25", "0.1", "0.4", "0.6", "0.8", "1"];

/// Sizes of the largest packed object to try; the first is the default.
const LARGEST: [u64; 4] = [64 << 10, 16 << 10, 32 << 10, 128 << 10];

/// What five users do with Python beside what all of them do.
const PYTHON: [&str; 5] = [
    "pass",
    "import numpy.fft; numpy.fft.fft([1, 2])",
    "import yaml; yaml.safe_dump({'a': [1, 2]})",
    "import jinja2; jinja2.Template('{% for n in range(3) %}{{ n }}{% endfor %}').render()",
    "import this, encodings.cp1252",
];

struct Work {
    image: Image,
    commands: Vec<Vec<String>>,
}

pub(super) async fn measure(site: &mut Site) -> Result<Vec<Target>> {
    let cache = image_cache()?;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let python = |more: &&str| words(&["python3", "-c", &format!("exec(open('/opt/app/main.py').read())\n{more}")]);
    let gcc = |(place, (name, source)): (usize, &(&str, &str))| {
        let compile = format!(
            "cat > /tmp/{name}.c <<'END'\n{source}\nEND\ngcc -O{} -o /tmp/{name} /tmp/{name}.c -lm && /tmp/{name}",
            place % 3
        );
        words(&["/bin/sh", "-c", &compile])
    };
    let python = Work { image: images::python(&cache)?, commands: PYTHON.iter().map(python).collect() };
    let programs = images::PROGRAMS.iter().enumerate();
    let gcc = Work { image: images::gcc(&cache)?, commands: programs.map(gcc).collect() };
    let mut targets = Vec::new();
    let mut taken = Taken::default();
    for work in [python, gcc] {
        let (more, packs) = of(site, &work).await?;
        targets.extend(more);
        taken.packs += packs.packs;
        taken.layers += packs.layers;
    }
    targets.push(Target::at_most(
        "packs / compressed layers, all images",
        taken.packs as f64 / taken.layers as f64,
        0.05,
    ));
    Ok(targets)
}

/// Bytes of packs, and of the compressed layers whose objects are in them.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    packs: u64,
    layers: u64,
}

async fn of(site: &mut Site, work: &Work) -> Result<(Vec<Target>, Taken)> {
    let image = site.publish(&work.image).await?;
    let name = work.image.repository.trim_start_matches("demo/").to_owned();
    let node = Node::start(site, &format!("{name}-node"), NodeSpec::default()).await?;
    let mut traces = Vec::new();
    for (place, command) in work.commands.iter().enumerate() {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        traces.push(node.record_as(&format!("trace-{place}"), &image, &command, &[])?);
    }
    println!("\n{name}: {} traces, each against a bundle of the others", traces.len());
    println!("  least share   objects covered   bytes covered   bytes wasted");
    let mut by_default = Value::Null;
    for share in SHARES {
        let said = run_command(site.builder("evaluate")?.args(["--json", "--min-share", share]).args(&traces))?;
        let common = serde_json::from_str::<Value>(&said)?["common"].clone();
        let percent = |what: &str| format!("{:.2} %", 100.0 * common[what].as_f64().unwrap_or(f64::NAN));
        let shares = [percent("coverage"), percent("byte_coverage"), percent("waste")];
        println!("{share:>13} {:>17} {:>15} {:>14}", shares[0], shares[1], shares[2]);
        if by_default.is_null() {
            by_default = common;
        }
    }
    let value = |what: &str| by_default[what].as_f64().with_context(|| format!("no {what} in {by_default}"));
    let paths: Vec<&Path> = traces.iter().map(PathBuf::as_path).collect();
    let file = site.build_bundle(&paths)?;
    let bundle = Bundle::read(&file)?;
    let (stored, raw) = bundle.bytes();
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let kinds: Vec<_> = bundle.profiles.iter().map(|it| format!("{} ({})", it.name, it.traces)).collect();
    println!("  bundle of all: {} objects, {:.1} MB of {:.1} MB raw", bundle.objects.len(), mega(stored), mega(raw));
    println!("  kinds of work: {}", kinds.join(", "));
    let packs = pack(site, &work.image, &file)?;
    let targets = vec![
        Target::at_most(
            &format!("{name}: share of the needed objects that is missing"),
            1.0 - value("coverage")?,
            0.01,
        ),
        Target::at_most(&format!("{name}: share of the bytes that is wasted"), value("waste")?, 0.05),
    ];
    Ok((targets, packs))
}

/// Packs of a bundle, for each size of the largest object; what those of the default size take.
fn pack(site: &Site, image: &Image, file: &Path) -> Result<Taken> {
    let packs = file.with_extension("packs");
    let layers: u64 = image.layers.iter().map(|layer| layer.size).sum();
    let mut by_default = None;
    for largest in LARGEST {
        let mut pack = site.builder("pack")?;
        run_command(pack.arg(file).args(["--max-object", &largest.to_string(), "--output"]).arg(&packs))?;
        let made = PackFile::all_below(&packs)?;
        std::fs::remove_dir_all(&packs)?;
        let bytes: u64 = made.iter().map(|pack| pack.reference().size).sum();
        let objects: usize = made.iter().map(|pack| pack.index().objects().len()).sum();
        let (share, mega) = (100.0 * bytes as f64 / layers as f64, bytes as f64 / 1e6);
        let (largest, count) = (largest >> 10, made.len());
        println!(
            "  objects of up to {largest:>3} KiB: {objects} in {count} packs, {mega:.1} MB, {share:.1} % of the layers"
        );
        by_default.get_or_insert(bytes);
    }
    Ok(Taken { packs: by_default.unwrap_or_default(), layers })
}
