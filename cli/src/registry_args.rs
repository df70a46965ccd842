//! `--plain-http`: how to reach an image registry.

use anyhow::{Error, Result};
use bundles::registry::{self, Image};

use crate::failure::Hint;

#[derive(clap::Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryArgs {
    /// Reach the registry over HTTP, without TLS
    #[arg(long)]
    pub(crate) plain_http: bool,
}

/// What rustls reports of a server that answers a TLS handshake in plain text.
const NOT_TLS: [&str; 2] = ["InvalidContentType", "corrupt message"];

impl RegistryArgs {
    /// The names and layers of an image, from its registry.
    pub(crate) async fn describe(&self, reference: &str) -> Result<Image> {
        registry::describe(reference, self.plain_http).await.map_err(|error| self.explain(error.into()))
    }

    /// Adds a hint to the error of a TLS handshake with a registry that does not speak TLS.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let text = format!("{error:#}");
        if !self.plain_http && NOT_TLS.iter().any(|mark| text.contains(mark)) {
            return error.context(Hint("the registry does not speak TLS; add --plain-http to use plain HTTP"));
        }
        error
    }
}
