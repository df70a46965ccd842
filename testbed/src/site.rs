//! What all nodes of a site share: the registry, the repository and its web server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bundles::bundle::Bundle;
use bundles::trace::Trace;

use crate::images::{self, Image, Layer};
use crate::namespace::SiteDirectory;
use crate::process::{binary, run, run_command};
use crate::publisher::{Chunking, Repository};
use crate::registry::Registry;
use crate::web::{LinkEmulator, LinkSpec, Origin, Squid};

/// The name of the site's repository.
pub const FQRN: &str = "unpacked.testbed.example";

/// The origin's labels of clients.
pub mod label {
    /// The mounted client of a node.
    pub const CLIENT: &str = "client";
    /// The prefetch daemon of a node.
    pub const DAEMON: &str = "daemon";
    /// The bundle builder.
    pub const BUILDER: &str = "builder";
}

/// Properties of a site.
#[derive(Debug, Clone, Copy, Default)]
pub struct SiteSpec {
    /// The link between the repository's server and the nodes. The registry is near, like a site's mirror, except for nodes with
    /// `far_registry`.
    pub link: LinkSpec,
    /// Nodes reach the server through a squid on their side of the link.
    pub squid: bool,
}

/// A running site without nodes. See [`crate::node::Node`].
#[derive(Debug)]
pub struct Site {
    /// Directory of all its files.
    pub directory: SiteDirectory,
    /// The repository's server.
    pub origin: Origin,
    /// The image registry.
    pub registry: Registry,
    /// The repository.
    pub repository: Repository,
    client_link: LinkEmulator,
    daemon_link: LinkEmulator,
    registry_link: LinkEmulator,
    squid: Option<Squid>,
    sandbox_image: String,
}

/// Directory in which images are cached between runs.
pub fn image_cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or(Path::new(&home).join(".cache"), PathBuf::from);
    let directory = cache.join("cvmfs-prefetch/images");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

impl Site {
    /// Starts a site with an empty repository and a registry that holds the sandbox image only.
    pub async fn start(name: &str, spec: SiteSpec) -> Result<Self> {
        let directory = SiteDirectory::new(name)?;
        let web_root = directory.subdirectory("web")?;
        let mut repository = Repository::create(&web_root.join("cvmfs").join(FQRN), FQRN)?;
        repository.commit()?;
        let origin = Origin::start(&web_root)?;
        origin.label_user_agent("cvmfs-prefetchd/", label::DAEMON);
        let link = |label| LinkEmulator::start(origin.address_for(label)?, spec.link);
        let client_link = link(label::CLIENT)?;
        let daemon_link = link(label::DAEMON)?;
        let squid = spec.squid.then(|| Squid::start(&directory.subdirectory("squid")?)).transpose()?;
        let registry = Registry::start(&directory.subdirectory("registry")?)?;
        let registry_link = LinkEmulator::start(registry.address().parse()?, spec.link)?;
        let sandbox_image = registry.push(&images::pause(&image_cache()?)?).await?;
        Ok(Self {
            directory,
            origin,
            registry,
            repository,
            client_link,
            daemon_link,
            registry_link,
            squid,
            sandbox_image,
        })
    }

    /// Pushes `image` and publishes all its layers; returns the reference.
    pub async fn publish(&mut self, image: &Image) -> Result<String> {
        self.publish_layers(image, &image.layers).await
    }

    /// Pushes `image` and publishes some of its layers; returns the reference.
    pub async fn publish_layers(&mut self, image: &Image, layers: &[Layer]) -> Result<String> {
        for layer in layers {
            self.repository.publish_layer(layer)?;
        }
        self.repository.commit()?;
        self.registry.push(image).await
    }

    /// Publishes a bundle with the command line, as a publisher does in a transaction.
    pub fn publish_bundle(&mut self, bundle: &Path) -> Result<()> {
        let tree = self.directory.subdirectory("tree")?;
        let (bundle, tree_argument) = (bundle.display().to_string(), tree.display().to_string());
        run(binary("cvmfs-prefetch")?, &["bundle", "push", &bundle, "--tree", &tree_argument])?;
        self.put_bundles(&tree)
    }

    /// Packs the small objects of a bundle and publishes bundle and packs beside earlier ones; returns the published bundle.
    pub fn publish_packed(&mut self, bundle: &Path) -> Result<Bundle> {
        let packs = bundle.with_extension("packs");
        if packs.exists() {
            std::fs::remove_dir_all(&packs)?;
        }
        run_command(self.builder("pack")?.arg(bundle).arg("--output").arg(&packs))?;
        let mut publish = Command::new(binary("cvmfs-prefetch")?);
        // With all earlier bundles of the site, because the tree replaces them.
        let tree = self.directory.subdirectory("tree")?;
        publish.args(["bundle", "push"]).arg(bundle).arg("--tree").arg(&tree);
        for pack in std::fs::read_dir(&packs)? {
            publish.arg("--pack").arg(pack?.path());
        }
        run_command(&mut publish)?;
        self.put_bundles(&tree)?;
        Ok(Bundle::read(bundle)?)
    }

    /// Replaces the repository's `.bundles` by `tree/.bundles`.
    pub fn put_bundles(&mut self, tree: &Path) -> Result<()> {
        self.repository.put_tree(bundles::layout::BUNDLES, &tree.join(bundles::layout::BUNDLES), Chunking::None)?;
        self.repository.commit()
    }

    /// Builds a bundle of traces with the command line; returns its path.
    pub fn build_bundle(&self, traces: &[&Path]) -> Result<PathBuf> {
        self.build_bundle_with(traces, &[])
    }

    /// Like [`Site::build_bundle`], with further options.
    pub fn build_bundle_with(&self, traces: &[&Path], options: &[&str]) -> Result<PathBuf> {
        let output = self.directory.path().join("image.bundle");
        run_command(self.builder("build")?.arg("--output").arg(&output).args(options).args(traces))?;
        Ok(output)
    }

    /// A command of the command line that reads this site's registry and repository.
    pub fn builder(&self, command: &str) -> Result<Command> {
        let url = format!("http://{}/cvmfs/{FQRN}", self.origin.address_for(label::BUILDER)?);
        let mut builder = Command::new(binary("cvmfs-prefetch")?);
        builder.args(["bundle", command, "--plain-http", "--repository", &url]);
        builder.arg("--public-key").arg(self.repository.public_key());
        Ok(builder)
    }

    /// Number of files in a trace.
    pub fn files_in(trace: &Path) -> Result<usize> {
        Ok(Trace::read(trace)?.files.len())
    }

    /// Changes the links of all nodes.
    pub fn set_link(&self, spec: LinkSpec) {
        self.client_link.set(spec);
        self.daemon_link.set(spec);
        self.registry_link.set(spec);
    }

    /// The daemon's link, for tests that cut or slow it separately from the client's.
    pub fn daemon_link(&self) -> &LinkEmulator {
        &self.daemon_link
    }

    /// The repository's URL for the nodes' clients.
    pub fn client_url(&self) -> String {
        format!("http://{}/cvmfs/{FQRN}", self.client_link.address())
    }

    /// The repository's URL for daemons of nodes without a proxy. (With a proxy, they use the clients' URL.)
    pub fn daemon_url(&self) -> String {
        format!("http://{}/cvmfs/{FQRN}", self.daemon_link.address())
    }

    /// The registry's address for nodes with `far_registry`.
    pub fn far_registry(&self) -> SocketAddr {
        self.registry_link.address()
    }

    /// Bytes that nodes with `far_registry` have received from the registry.
    pub fn registry_bytes(&self) -> u64 {
        self.registry_link.received()
    }

    /// Sets or removes the squid of nodes that start from now on; the previous squid stops.
    pub fn set_squid(&mut self, squid: Option<Squid>) {
        self.squid = squid;
    }

    /// The squid, if there is one.
    pub fn squid(&self) -> Option<&Squid> {
        self.squid.as_ref()
    }

    /// The squid's URL, if there is one.
    pub fn proxy(&self) -> Option<String> {
        self.squid.as_ref().map(Squid::url)
    }

    /// Reference of the sandbox image.
    pub fn sandbox_image(&self) -> &str {
        &self.sandbox_image
    }
}

/// A site whose link has this round-trip time and no limits, without squid.
pub fn with_round_trip(round_trip: Duration) -> SiteSpec {
    SiteSpec { link: LinkSpec::with_round_trip(round_trip), squid: false }
}
