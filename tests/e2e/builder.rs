//! Bundles of several traces, rebased and packed bundles, and their use on a node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::proto::{Image, RequestState, Tally};
use bundles::bundle::{Bundle, BundleObject};
use bundles::cvmfs::{EntryKind, MasterKey, MountedClient, Repository, Server};
use bundles::object::ObjectKind;
use bundles::pack::PackFile;
use bundles::path::RootPath;
use testbed::images::{self, ImageBuilder};
use testbed::node::{Node, NodeSpec};
use testbed::process::run_command;
use testbed::publisher::Chunking;
use testbed::site::{FQRN, Site, image_cache, label, with_round_trip};
use tracer_ebpf::cri::MountSpec;

use crate::record_running::{LIMIT, record_until_up, start};
use crate::support::{FILES, READ_ALL, files, publish_bundle, requested_paths};

/// A command that reads the files of `/data` that match `pattern`.
fn reading(pattern: &str) -> [String; 3] {
    ["/bin/sh", "-c", &format!("cat /data/{pattern} > /dev/null")].map(String::from)
}

fn record(node: &Node, name: &str, image: &str, profile: &str, pattern: &str) -> Result<PathBuf> {
    let command = reading(pattern);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    node.record_as(name, image, &words, &["--profile", profile])
}

/// Names of the files of `/data` among `objects`.
fn numbers<'a>(objects: impl IntoIterator<Item = &'a BundleObject>) -> Vec<String> {
    let inside = objects.into_iter().filter_map(BundleObject::container_path);
    let mut names: Vec<_> = inside.filter(|path| path.to_string().starts_with("/data/")).collect();
    names.sort();
    names.iter().map(|path| String::from_utf8_lossy(path.name()).into_owned()).collect()
}

fn range(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("{number:03}")).collect()
}

#[test]
fn several_traces_give_a_common_section_and_one_per_profile() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = site.publish(&files()?).await?;
        let node = Node::start(&site, "build", NodeSpec::default()).await?;
        // 000 to 009 are read by all; 010 to 019 by the profile fit, one of whose runs also reads 030; 020 to 029 by plot.
        let traces = [
            record(&node, "fit-1", &image, "fit", "0[01]*")?,
            record(&node, "plot", &image, "plot", "0[02]*")?,
            record(&node, "fit-2", &image, "fit", "0[01]*")?,
            record(&node, "fit-3", &image, "fit", "0[01]* /data/030")?,
        ];
        let paths: Vec<&Path> = traces.iter().map(PathBuf::as_path).collect();
        let file = site.build_bundle_with(&paths, &["--min-share=0.4"])?;
        let bytes = std::fs::read(&file)?;
        let turned: Vec<&Path> = paths.iter().rev().copied().collect();
        ensure!(
            std::fs::read(site.build_bundle_with(&turned, &["--min-share=0.4"])?)? == bytes,
            "the order of the traces matters"
        );

        let bundle = Bundle::read(&file)?;
        let profiles: Vec<_> = bundle.profiles.iter().map(|it| (it.name.as_str(), it.traces)).collect();
        ensure!(profiles == [("fit", 3), ("plot", 1)] && bundle.traces == 4, "{profiles:?}");
        let part = |profile: Option<usize>| {
            let is_in = |object: &&BundleObject| object.need.profiles.first() == profile;
            numbers(bundle.objects.iter().filter(is_in))
        };
        ensure!(part(None) == range(0, 10) && part(Some(0)) == range(10, 20) && part(Some(1)) == range(20, 30));
        ensure!(bundle.skipped.rare == 1, "{:?}", bundle.skipped);
        let layers = bundle.catalogs.iter().filter(|it| it.mountpoint.name() == b"layerfs").count();
        ensure!(layers == 2 && bundle.catalogs.len() > layers, "{:?}", bundle.catalogs);
        let shell = bundle.objects.iter().find(|object| object.path.name() == b"busybox").context("no shell")?;
        ensure!(shell.need.used_in == 4 && shell.need.first_us <= shell.need.typical_us, "{shell:?}");

        site.publish_bundle(&file)?;
        let tally = async |name: &str, profile: &str| -> Result<Tally> {
            let node = Node::start(&site, name, NodeSpec { snapshotter: false, ..NodeSpec::default() }).await?;
            let chain_id = bundle.image.chain_id.to_string();
            let image = Image { chain_id, profile: profile.into(), ..Image::default() };
            let id = node.prefetch().prefetch(image).await?;
            let status = node.prefetch().wait(id, LIMIT).await?;
            ensure!(status.state() == RequestState::Done, "{status:?}");
            status.tally.context("no tally")
        };
        let all = bundle.objects.len() as u64;
        for (name, profile, expected) in
            [("plotter", "plot", all - 10), ("fitter", "fit", all - 10), ("any", "", all), ("other", "what?", all)]
        {
            let tally = tally(name, profile).await?;
            ensure!(tally.total_objects == expected && tally.fetched_objects > 20, "{profile}: {tally:?}");
        }

        // Each run of fit is evaluated against the others: half of them read 030; the section of plot has no other trace.
        let output = run_command(site.builder("evaluate")?.arg("--json").args(&traces))?;
        let output: serde_json::Value = serde_json::from_str(&output)?;
        let hits =
            |trace: usize, what: &str| output["traces"][trace]["with_profile"][what]["objects"].as_u64().unwrap_or(0);
        ensure!(hits(0, "needed") == hits(0, "hit") && hits(0, "held") == hits(0, "needed") + 1, "{output}");
        ensure!(hits(1, "needed") == hits(1, "hit") + 10, "{output}");
        ensure!(hits(3, "needed") == hits(3, "hit") + 1, "{output}");
        Ok(())
    });
}

#[test]
fn a_rebased_bundle_serves_a_new_tag_before_its_first_run() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let old = files()?;
        let reference = site.publish(&old).await?;
        let node = Node::start(&site, "build", NodeSpec::default()).await?;
        let trace = node.record(&reference, &READ_ALL)?;
        let bundle = site.build_bundle(&[&trace])?;
        drop(node);
        let (kept, before) = (bundle.with_extension("old"), Bundle::read(&bundle)?);
        std::fs::rename(&bundle, &kept)?;

        let change = |tar: &mut images::LayerTar| {
            tar.dir("data", 0o755)?;
            tar.file("data/001", 0o644, "new content")?;
            tar.whiteout("data/002")
        };
        let new = ImageBuilder::from(&old, "demo/files", "2")?.layer(change).build(&image_cache()?)?;
        let reference = site.publish(&new).await?;
        let mut rebase = site.builder("rebase")?;
        let output = run_command(rebase.arg(&kept).args(["--image", &reference, "--output"]).arg(&bundle))?;
        ensure!(output.contains("1 changed, 1 removed"), "{output}");
        let after = Bundle::read(&bundle)?;
        let rebased = after.rebased.clone().context("the bundle was not rebased")?;
        ensure!(rebased.from == before.image && after.image.chain_id == new.chain_id(), "{rebased:?}");
        let of = |bundle: &Bundle, name: &str| {
            let is_it = |object: &&BundleObject| object.path.name() == name.as_bytes();
            bundle
                .objects
                .iter()
                .find(is_it)
                .map(|object| (object.hash, object.need.share, object.need.confidence.parts()))
        };
        ensure!(of(&after, "000") == of(&before, "000") && of(&after, "000").is_some());
        let (was, is) = (of(&before, "001").context("001")?, of(&after, "001").context("001")?);
        ensure!(is.0 != was.0 && is.1 == was.1 && (is.2, was.2) == (8_000, 10_000), "{was:?} {is:?}");
        ensure!(of(&after, "002").is_none() && of(&before, "002").is_some());

        site.publish_bundle(&bundle)?;
        let node = Node::start(&site, "worker", NodeSpec::default()).await?;
        node.pull(&reference).await?;
        let requests = node.wait_for_prefetch(&reference).await?;
        ensure!(requests.iter().all(|request| request.state() == RequestState::Done), "{requests:?}");
        site.origin.take_requests();
        node.output(&reference, &READ_ALL).await?;
        let client = requested_paths(&site, label::CLIENT);
        ensure!(client.is_empty(), "the start requested {client:?}");
        Ok(())
    });
}

#[test]
fn packs_of_small_objects_are_reused_by_the_next_image() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let old = files()?;
        let reference = site.publish(&old).await?;
        let node = Node::start(&site, "build", NodeSpec::default()).await?;
        let bundle = publish_bundle(&mut site, &node, &reference, &READ_ALL)?;
        let file = site.directory.path().join("image.bundle");
        let packs = site.directory.path().join("packs");
        let pack = |site: &Site, file: &Path, output: &Path| -> Result<String> {
            run_command(site.builder("pack")?.arg(file).arg("--published").arg(&packs).arg("--output").arg(output))
        };
        pack(&site, &file, &packs)?;
        let packed = Bundle::read(&file)?;
        ensure!(packed.objects.len() == bundle.objects.len() && !packed.packs.is_empty());
        let made = PackFile::all_below(&packs)?;
        let mut in_packs = 0;
        for object in &packed.objects {
            let is_small = object.stored_size <= 64 << 10 && object.kind != ObjectKind::Catalog;
            let Some(place) = object.packed else {
                // A single object needs no pack.
                ensure!(!is_small || numbers([object]).is_empty(), "{object:?}");
                continue;
            };
            in_packs += 1;
            let reference = &packed.packs[place.pack.as_usize()];
            let pack = made.iter().find(|pack| pack.reference() == reference).context("no such pack")?;
            let entry = pack.index().objects().iter().find(|it| it.hash == object.hash).context("not in it")?;
            ensure!(
                (entry.offset, entry.stored_size, entry.raw_size)
                    == (place.offset, object.stored_size, object.raw_size)
            );
            let published = std::fs::read(site.repository.object_path(&object.hash, object.kind))?;
            ensure!(pack.object(entry)? == published, "{object:?} is not as it is published");
        }
        ensure!(in_packs >= FILES, "{in_packs} objects in packs");

        // Packing again changes nothing; another image on the same layer uses the same packs.
        let again = site.directory.path().join("again");
        let output = pack(&site, &file, &again)?;
        ensure!(output.contains("in 0 new packs") && Bundle::read(&file)? == packed, "{output}");
        let more = |tar: &mut images::LayerTar| tar.file("more", 0o644, "more");
        let next = ImageBuilder::from(&old, "demo/files", "2")?.layer(more).build(&image_cache()?)?;
        let reference = site.publish(&next).await?;
        let mut rebase = site.builder("rebase")?;
        run_command(rebase.arg(&file).args(["--image", &reference, "--output"]).arg(&file))?;
        let output = pack(&site, &file, &again)?;
        ensure!(output.contains("in 0 new packs") && Bundle::read(&file)?.packs == packed.packs, "{output}");
        Ok(())
    });
}

#[test]
fn a_bundle_has_only_the_read_chunks_of_a_mounted_repository() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::busybox(&image_cache()?)?).await?;
        let tree = site.directory.subdirectory("software")?;
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        std::fs::write(tree.join("big"), content)?;
        std::fs::write(tree.join("small"), "small")?;
        std::fs::write(tree.join("unread"), "unread")?;
        let chunking = Chunking::Sizes { min: 256 << 10, avg: 512 << 10, max: 1 << 20 };
        site.repository.put_tree("/sw", &tree, chunking)?;
        site.repository.put_catalog("/sw")?;
        // A merged tree that differs from the layers and so shares no object with them.
        let flat = site.directory.subdirectory("flat")?;
        std::fs::create_dir(flat.join("bin"))?;
        std::fs::write(flat.join("bin/busybox"), "another shell")?;
        site.repository.put_tree("/.flat/ab/cd", &flat, Chunking::None)?;
        site.repository.put_symlink("/registry.example.org/flat:1", "../.flat/ab/cd")?;
        site.repository.commit()?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let inside = format!("/cvmfs/{FQRN}");
        let mounts =
            vec![MountSpec { host: node.directory().join("cvmfs"), container: inside.clone().into(), read_only: true }];
        let script = format!(
            "while [ ! -e /tmp/go ]; do sleep 0.05; done; dd if={inside}/sw/big bs=4096 skip=500 count=1 of=/dev/null
             cat {inside}/sw/small > /dev/null; echo up; exec sleep 1000"
        );
        let (mut runtime, id) = start(&node, &reference, "analysis", &script, mounts).await?;
        let output = record_until_up(&node, &mut runtime, &id, &[]).await?;

        let bundle = Bundle::read(&site.build_bundle(&[&output])?)?;
        let of = |name: &str| {
            bundle.objects.iter().filter(|it| it.path.to_string() == format!("/sw/{name}")).collect::<Vec<_>>()
        };
        let big = of("big");
        // The kernel reads ahead through FUSE, but only within the touched chunk.
        let touched = |object: &&BundleObject| (object.offset..object.offset + object.raw_size).contains(&(500 * 4096));
        ensure!(big.len() == 1 && big.iter().all(touched) && big[0].kind == ObjectKind::Chunk, "{big:?}");
        ensure!(of("small").len() == 1 && of("unread").is_empty());
        ensure!(bundle.skipped.untouched_chunks >= 3, "{:?}", bundle.skipped);
        ensure!(bundle.catalogs.iter().any(|it| it.mountpoint.as_bytes() == b"/sw"), "{:?}", bundle.catalogs);

        // For an image run from its merged tree, as Apptainer does, the objects are those of the tree.
        let mut of_flat = site.builder("build")?;
        let (flat, file) = ("/registry.example.org/flat:1", site.directory.path().join("flat.bundle"));
        run_command(of_flat.args(["--flat", flat]).arg("--output").arg(&file).arg(&output))?;
        let bundle = Bundle::read(&file)?;
        let of_image: Vec<_> =
            bundle.objects.iter().filter(|it| it.path.to_string().starts_with("/.flat/ab/cd/")).collect();
        ensure!(of_image.len() == 1 && of_image[0].path.name() == b"busybox", "{of_image:?}");
        ensure!(bundle.objects.iter().all(|it| it.container_path().is_none()), "{:?}", bundle.objects);

        // The mounted client and the catalogs give the same result.
        let mounted = MountedClient::at(&node.directory().join("cvmfs"))?;
        let key = MasterKey::read(site.repository.public_key())?;
        let url = format!("http://{}/cvmfs/{FQRN}", site.origin.address_for(label::BUILDER)?);
        let mut repository = Repository::open(Server::new(&url, None)?, &[key]).await?;
        ensure!(mounted.name() == FQRN);
        for path in ["/sw/big", "/sw/small", "/sw", "/sw/none", "/sw/small/none"] {
            let path = RootPath::new(path)?;
            let from_catalogs = repository.lookup(&path).await?.and_then(|entry| match entry.kind {
                EntryKind::File(content) => Some((entry.size, content)),
                _ => None,
            });
            ensure!(mounted.content(&path)? == from_catalogs, "{path}: {from_catalogs:?}");
        }
        Ok(())
    });
}
