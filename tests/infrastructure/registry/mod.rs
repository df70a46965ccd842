//! Bundles in registries: Debian's `docker-registry`, which has no referrers API, and a fake registry, which has.

mod debian;
mod fake;
mod login;
mod push;
mod untrusted;

use std::path::Path;

use bundles::bundle::{Bundle, BundleObject};
use bundles::image::{Digest, ImageId};
use bundles::object::ContentHash;
use bundles::path::RootPath;
use testbed::images::{Image, ImageBuilder};

/// A small image.
fn image(directory: &Path, tag: &str) -> Image {
    let builder = ImageBuilder::new("demo/small", tag).layer(|tar| tar.file("hello", 0o644, tag));
    builder.entrypoint(["/hello"]).build(directory).unwrap()
}

/// A bundle for `image` that claims to be built from `traces` traces.
fn bundle(image: &Image, reference: &str, traces: u32) -> Bundle {
    let names = ImageId {
        chain_id: image.chain_id(),
        manifest: Some(image.manifest_digest()),
        reference: reference.to_owned(),
    };
    let object = |n: u8| {
        let path = RootPath::new(format!("/.layers/ab/{}/layerfs/f{n}", Digest::sha256(b"layer").hex())).unwrap();
        BundleObject::file(ContentHash::sha1([n; 20]), 1, path)
    };
    Bundle { traces, objects: (0..20).map(object).collect(), ..Bundle::new(names, "unpacked.example.org") }
}

/// Runs the command line with the home directory `home` and only the logins in `environment`; returns whether it succeeded, and
/// its output.
async fn cli(home: &Path, environment: &[(&str, &Path)], arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(testbed::process::binary("cvmfs-prefetch").unwrap());
    command.args(arguments).env("HOME", home).env("RUST_LOG", "trace").stdin(std::process::Stdio::null());
    for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let output = command.output().await.unwrap();
    let message = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), message)
}
