//! Bundles that are stored beside their images in a registry.
//!
//! Only configured registries are used, so that a client of the daemon's socket cannot choose which hosts the daemon connects to.

use std::time::Duration;

use bundles::bundle::Bundle;
use bundles::registry::fetch_bundle;

use super::lookup::{FoundBundle, LookupError, check_image};
use crate::request::image_query::ImageQuery;

/// The configured registries.
#[derive(Debug, Clone, Default)]
pub(super) struct Registries {
    /// Host names, with a port unless it is the default; `http://` before those without TLS.
    hosts: Vec<String>,
    timeout: Duration,
}

impl Registries {
    pub(super) fn new(hosts: Vec<String>, timeout: Duration) -> Self {
        Self { hosts, timeout }
    }

    /// Looks up the bundle of `query` if its registry is configured.
    pub(super) async fn find(&self, query: &ImageQuery) -> Result<Box<FoundBundle>, LookupError> {
        let Some((reference, plain_http)) = self.reference(query) else { return Err(LookupError::Absent) };
        let source = format!("registry {reference}");
        let response = tokio::time::timeout(self.timeout, fetch_bundle(&reference, plain_http)).await;
        let late =
            |_| LookupError::NoAnswer(format!("{source} did not respond within {} s", self.timeout.as_secs_f32()));
        let bundle: Option<Bundle> = response.map_err(late)?.map_err(|e| LookupError::NoAnswer(e.to_string()))?;
        let bundle = bundle.ok_or(LookupError::Absent)?;
        check_image(&source, &bundle, query)?;
        Ok(Box::new(FoundBundle { bundle, source }))
    }

    /// The reference to look up, by digest if it is known, and whether to connect without TLS.
    fn reference(&self, query: &ImageQuery) -> Option<(String, bool)> {
        let (host, rest) = query.reference.split_once('/')?;
        let is_registry = |configured: &&String| configured.strip_prefix("http://").unwrap_or(configured) == host;
        let registry = self.hosts.iter().find(is_registry)?;
        let reference = match query.manifest {
            None => query.reference.clone(),
            Some(manifest) => {
                let name = rest.split('@').next().unwrap_or(rest);
                let end = name.rfind(':').filter(|colon| !name[*colon..].contains('/')).unwrap_or(name.len());
                format!("{host}/{}@{manifest}", &name[..end])
            }
        };
        Some((reference, registry.starts_with("http://")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bundles::image::Digest;

    #[test]
    fn only_configured_registries_are_used_by_digest_if_known() {
        let hosts = vec!["registry.example.org".into(), "http://localhost:5000".into()];
        let registries = Registries::new(hosts, Duration::from_secs(1));
        let manifest = Digest::sha256(b"m");
        let asked = |reference: &str, manifest| {
            let query = ImageQuery { chain: None, manifest, reference: reference.into(), profile: String::new() };
            registries.reference(&query)
        };
        let by_digest = |name: &str| format!("{name}@{manifest}");
        let tag = "registry.example.org/physics/root:6.36";
        assert_eq!(asked(tag, None), Some((tag.into(), false)));
        assert_eq!(asked(tag, Some(manifest)), Some((by_digest("registry.example.org/physics/root"), false)));
        let digest = format!("localhost:5000/a/b@{}", Digest::sha256(b"other"));
        assert_eq!(asked(&digest, Some(manifest)), Some((by_digest("localhost:5000/a/b"), true)));
        for other in ["registry.example.com/a:1", "evil.example.org/registry.example.org/a", "busybox", ""] {
            assert_eq!(asked(other, Some(manifest)), None, "{other}");
        }
    }
}
