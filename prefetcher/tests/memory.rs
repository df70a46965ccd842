//! Hostile bundles do not take the daemon's memory beyond what its unit allows.

#![allow(clippy::unwrap_used)]

mod site;

use std::process::Command;

use api::client::Client;
use api::proto::{Image, PrefetchRequest};
use bundles::bundle::{Bundle, BundleObject};
use bundles::object::ContentHash;
use bundles::path::RootPath;

use site::{Daemon, LONG, Origin, Site, by_chain};

/// `MemoryMax` of deploy/systemd/cvmfs-prefetchd.service, in MiB.
const MEMORY_MAX: u64 = 256;
const UNIT: &str = include_str!("../../deploy/systemd/cvmfs-prefetchd.service");

/// A bundle of objects that no server has, small as a file and large in memory: its paths share nearly all of their bytes.
fn hostile(name: &str, objects: u32, path_length: usize) -> Bundle {
    let directory = format!("/{}", "x".repeat(250)).repeat(path_length.div_ceil(251));
    let object = |n: u32| BundleObject {
        stored_size: 1000,
        ..BundleObject::file(
            ContentHash::sha1_of(format!("{name} {n}").as_bytes()),
            2000,
            RootPath::new(format!("{}/{n}", &directory[..path_length])).unwrap(),
        )
    };
    Bundle { objects: (0..objects).map(object).collect(), ..site::bundle(name, []) }
}

fn peak_mib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() >> 10
}

/// Requests an image and waits for the end. An error is fine: it is one that names what is wrong.
async fn request(client: &Client, image: Option<Image>, bundle: Vec<u8>) -> String {
    match client.submit(PrefetchRequest { image, bundle, ..PrefetchRequest::default() }).await {
        Ok(id) => client.wait(id, 10 * LONG).await.unwrap().error,
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_hostile_bundles_at_a_time_stay_within_the_units_memory() {
    assert!(UNIT.contains(&format!("MemoryMax={MEMORY_MAX}M")));
    let site = Site::new();
    let origin = Origin::start([]).await;
    // As its unit starts it.
    let mut command = Command::new("env");
    command.arg("MALLOC_ARENA_MAX=1");
    let daemon = Daemon::start_by(&site, &[&origin], command).await;
    let client = Client::connect_lazy(&site.path("prefetchd.sock")).with_timeout(10 * LONG);
    let idle = peak_mib(&daemon);
    // The largest that are decoded: by number of objects, by length of their paths; two that are refused; and small ones.
    let small = (100, 60);
    let shapes = [(60_000, 60), (20_000, 1_800), small, (90_000, 60), small, (40_000, 3_000), small, small];
    let bundles: Vec<Bundle> = (0..64)
        .map(|n| {
            let (objects, path_length) = shapes[n % shapes.len()];
            hostile(&format!("image {n}"), objects, path_length)
        })
        .collect();
    let (published, sent) = bundles.split_at(48);
    published.iter().for_each(|bundle| _ = site.publish(bundle));
    let mut files: Vec<Vec<u8>> = sent.iter().map(|bundle| bundle.to_bytes().unwrap()).collect();
    // As large as a message may be.
    files.extend((0..8).map(|n| vec![n; 4 << 20]));
    files.push(vec![0; (4 << 20) + 1]);
    let by_source = published.iter().map(|bundle| request(&client, Some(by_chain(bundle)), Vec::new()));
    let by_client = files.into_iter().map(|file| request(&client, None, file));
    let errors = futures::join!(futures::future::join_all(by_source), futures::future::join_all(by_client));
    let errors: Vec<String> = errors.0.into_iter().chain(errors.1).collect();
    assert!(errors.iter().all(|error| !error.is_empty()), "{errors:?}");
    for expected in ["do not have many objects", "takes more memory", "not a bundle", "4194305 bytes"] {
        assert!(errors.iter().any(|error| error.contains(expected)), "{expected}: {errors:?}");
    }
    let peak = peak_mib(&daemon);
    assert!(peak < MEMORY_MAX, "{peak} MiB at most, {idle} MiB when idle");
    println!("{peak} MiB at most, {idle} MiB when idle");
}
