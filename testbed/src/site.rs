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
use crate::web::{Line, LineSpec, Origin, Squid};

/// The name of the site's repository.
pub const FQRN: &str = "unpacked.testbed.example";

/// The origin's labels for those who ask it.
pub mod label {
    /// The mounted client of a node.
    pub const CLIENT: &str = "client";
    /// The prefetch daemon of a node.
    pub const DAEMON: &str = "daemon";
    /// Whoever builds bundles.
    pub const BUILDER: &str = "builder";
}

/// What a site is to be like.
#[derive(Debug, Clone, Copy, Default)]
pub struct SiteSpec {
    /// The line between the repository's server and the nodes. The registry is near, as a site's mirror is, but for nodes that
    /// are told otherwise.
    pub line: LineSpec,
    /// Nodes reach the server through a squid on their side of the line.
    pub squid: bool,
}

/// A running site without nodes. See [`crate::node::Node`].
#[derive(Debug)]
pub struct Site {
    /// Where everything of it is.
    pub directory: SiteDirectory,
    /// The repository's server.
    pub origin: Origin,
    /// The image registry.
    pub registry: Registry,
    /// The repository, to publish into.
    pub repository: Repository,
    client_line: Line,
    daemon_line: Line,
    registry_line: Line,
    squid: Option<Squid>,
    sandbox_image: String,
}

/// Where images are cached between runs.
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
        origin.tell_apart("cvmfs-prefetchd/", label::DAEMON);
        let line = |label| Line::start(origin.address_for(label)?, spec.line);
        let (client_line, daemon_line) = (line(label::CLIENT)?, line(label::DAEMON)?);
        let squid = spec.squid.then(|| Squid::start(&directory.subdirectory("squid")?)).transpose()?;
        let registry = Registry::start(&directory.subdirectory("registry")?)?;
        let registry_line = Line::start(registry.address().parse()?, spec.line)?;
        let sandbox_image = registry.push(&images::pause(&image_cache()?)?).await?;
        Ok(Self {
            directory,
            origin,
            registry,
            repository,
            client_line,
            daemon_line,
            registry_line,
            squid,
            sandbox_image,
        })
    }

    /// Pushes `image` and publishes all its layers; the reference.
    pub async fn publish(&mut self, image: &Image) -> Result<String> {
        self.publish_layers(image, &image.layers).await
    }

    /// Pushes `image` and publishes some layers; the reference.
    pub async fn publish_layers(&mut self, image: &Image, layers: &[Layer]) -> Result<String> {
        for layer in layers {
            self.repository.publish_layer(layer)?;
        }
        self.repository.commit()?;
        self.registry.push(image).await
    }

    /// Publishes a bundle with the command line, as a publisher does inside a transaction.
    pub fn publish_bundle(&mut self, bundle: &Path) -> Result<()> {
        let tree = self.directory.subdirectory("tree")?;
        let (bundle, tree_argument) = (bundle.display().to_string(), tree.display().to_string());
        run(binary("cvmfs-prefetch")?, &["publish", &bundle, "--tree", &tree_argument])?;
        self.put_bundles(&tree)
    }

    /// Puts small objects of a bundle into packs, and publishes both beside what was published before. The bundle, as published.
    pub fn publish_packed(&mut self, bundle: &Path) -> Result<Bundle> {
        let packs = bundle.with_extension("packs");
        if packs.exists() {
            std::fs::remove_dir_all(&packs)?;
        }
        run_command(self.builder("pack")?.arg(bundle).arg("--output").arg(&packs))?;
        let mut publish = Command::new(binary("cvmfs-prefetch")?);
        // All bundles of the site, for the tree takes the place of what was published before.
        let tree = self.directory.subdirectory("tree")?;
        publish.arg("publish").arg(bundle).arg("--tree").arg(&tree);
        for pack in std::fs::read_dir(&packs)? {
            publish.arg("--pack").arg(pack?.path());
        }
        run_command(&mut publish)?;
        self.put_bundles(&tree)?;
        Ok(Bundle::read(bundle)?)
    }

    /// Copies `tree/.bundles` into the repository, whatever it holds.
    pub fn put_bundles(&mut self, tree: &Path) -> Result<()> {
        self.repository.put_tree(
            bundles::publish::DIRECTORY,
            &tree.join(bundles::publish::DIRECTORY),
            Chunking::None,
        )?;
        self.repository.commit()
    }

    /// Makes a bundle of traces with the command line; where it is.
    pub fn build_bundle(&self, traces: &[&Path]) -> Result<PathBuf> {
        self.build_bundle_with(traces, &[])
    }

    /// The same with further options.
    pub fn build_bundle_with(&self, traces: &[&Path], options: &[&str]) -> Result<PathBuf> {
        let output = self.directory.path().join("image.bundle");
        run_command(self.builder("build")?.arg("--output").arg(&output).args(options).args(traces))?;
        Ok(output)
    }

    /// A command of the command line that makes or tries bundles, told where registry and repository are.
    pub fn builder(&self, command: &str) -> Result<Command> {
        let url = format!("http://{}/cvmfs/{FQRN}", self.origin.address_for(label::BUILDER)?);
        let mut builder = Command::new(binary("cvmfs-prefetch")?);
        builder.args([command, "--plain-http", "--repository", &url]);
        builder.arg("--public-key").arg(self.repository.public_key());
        Ok(builder)
    }

    /// How many files a trace holds.
    pub fn files_in(trace: &Path) -> Result<usize> {
        Ok(Trace::read(trace)?.files.len())
    }

    /// Changes the lines of all nodes.
    pub fn set_line(&self, spec: LineSpec) {
        self.client_line.set(spec);
        self.daemon_line.set(spec);
        self.registry_line.set(spec);
    }

    /// The daemon's line, to be cut or slowed apart from the client's.
    pub fn daemon_line(&self) -> &Line {
        &self.daemon_line
    }

    /// The URL of the repository as clients of nodes have it.
    pub fn client_url(&self) -> String {
        format!("http://{}/cvmfs/{FQRN}", self.client_line.address())
    }

    /// The URL of the repository as daemons of nodes have it that use no proxy; else it is the clients'.
    pub fn daemon_url(&self) -> String {
        format!("http://{}/cvmfs/{FQRN}", self.daemon_line.address())
    }

    /// The registry's address for nodes that are far from it.
    pub fn far_registry(&self) -> SocketAddr {
        self.registry_line.address()
    }

    /// Bytes that have come from the registry to nodes that are far from it.
    pub fn registry_bytes(&self) -> u64 {
        self.registry_line.received()
    }

    /// Puts another squid, or none, between server and nodes that start from now on; the one before stops.
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

/// A site with a line of this round-trip time and nothing else in the way.
pub fn with_round_trip(round_trip: Duration) -> SiteSpec {
    SiteSpec { line: LineSpec::with_round_trip(round_trip), squid: false }
}
