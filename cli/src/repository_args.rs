//! Where a build node looks up files: the repository of the image's layers, other repositories, and the registry.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bundles::builder::Repositories;
use bundles::cvmfs::{MasterKey, Repository, Server};
use bundles::registry::Image;

use crate::registry_args::RegistryArgs;

#[derive(clap::Args)]
#[group(id = "repositories", multiple = true)]
#[command(next_help_heading = "Repositories")]
pub(crate) struct RepositoryArgs {
    /// URL of the image's repository on a server, e.g. http://stratum1.example.org/cvmfs/unpacked.cern.ch
    #[arg(long, value_name = "URL")]
    repository: String,
    /// URL of another repository whose files the containers use; may be repeated
    ///
    /// For example http://stratum1.example.org/cvmfs/sft.cern.ch. Files of repositories that are not named here or with
    /// --mounted do not come into the bundle.
    #[arg(long, value_name = "URL")]
    other_repository: Vec<String>,
    /// Mount point of another repository on this machine, e.g. /cvmfs/sft.cern.ch; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    mounted: Vec<PathBuf>,
    /// HTTP proxy for the repositories, e.g. http://squid.example.org:3128 [default: none]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Public master key of a repository (PEM); may be repeated
    ///
    /// One of the keys must match each repository. The CVMFS client has those of its repositories in /etc/cvmfs/keys.
    #[arg(long, value_name = "FILE", required = true)]
    public_key: Vec<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl RepositoryArgs {
    /// The names and layers of an image, from its registry.
    pub(crate) async fn image(&self, reference: &str) -> Result<Image> {
        self.registry.describe(reference).await
    }

    /// Opens all repositories and verifies their signatures.
    pub(crate) async fn open(&self) -> Result<Repositories> {
        let keys = self.public_key.iter().map(|path| MasterKey::read(path)).collect::<Result<Vec<_>, _>>()?;
        let open = async |url: &str| {
            let server = Server::new(url, self.proxy.as_deref())?;
            Repository::open(server, &keys).await.with_context(|| format!("cannot open the repository {url}"))
        };
        let mut repositories = Repositories::new(open(&self.repository).await?);
        for url in &self.other_repository {
            repositories.add(open(url).await?);
        }
        for path in &self.mounted {
            repositories.add_mounted(path)?;
        }
        Ok(repositories)
    }
}
