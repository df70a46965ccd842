//! Where a build node asks about files: the repository of the image's layers, others, and the registry.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bundles::builder::Repositories;
use bundles::cvmfs::{MasterKey, Repository, Server};
use bundles::registry::{self, Image};

#[derive(clap::Args)]
#[group(id = "repositories", multiple = true)]
pub(crate) struct Args {
    /// URL of the repository on a server, e.g. <http://stratum1.example.org/cvmfs/unpacked.cern.ch>
    #[arg(long, value_name = "URL")]
    repository: String,
    /// URL of another repository whose files the containers use, e.g. <http://stratum1.example.org/cvmfs/sft.cern.ch>;
    /// may be given several times
    #[arg(long, value_name = "URL")]
    other_repository: Vec<String>,
    /// Another repository that is mounted on this machine, e.g. /cvmfs/sft.cern.ch; may be given several times
    #[arg(long, value_name = "DIRECTORY")]
    mounted: Vec<PathBuf>,
    /// HTTP proxy for the repositories, e.g. <http://squid.example.org:3128>; without it, direct
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Master key of a repository (PEM); may be given several times, one must match each repository
    #[arg(long, value_name = "FILE", required = true)]
    public_key: Vec<PathBuf>,
    /// Talk to the registry without TLS
    #[arg(long)]
    plain_http: bool,
}

impl Args {
    /// What the registry says of an image.
    pub(crate) async fn image(&self, reference: &str) -> Result<Image> {
        Ok(registry::describe(reference, self.plain_http).await?)
    }

    /// All repositories, verified.
    pub(crate) async fn open(&self) -> Result<Repositories> {
        let keys = self.public_key.iter().map(|path| MasterKey::read(path)).collect::<Result<Vec<_>, _>>()?;
        let open = async |url: &str| {
            let server = Server::new(url, self.proxy.as_deref())?;
            Repository::open(server, &keys).await.with_context(|| format!("cannot use the repository {url}"))
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
