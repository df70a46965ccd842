//! Bundles that lie beside their images in a registry.
//!
//! Only registries that the configuration names are asked: whoever may use our socket must not choose whom we talk to.

use std::time::Duration;

use bundles::bundle::Bundle;
use bundles::registry::fetch_bundle;

use super::lookup::{Found, Miss, check_image};
use crate::request::image_query::ImageQuery;

/// The registries that are asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Registries {
    /// As configured: hosts, with a port if it is not the usual one; `http://` before those without TLS.
    hosts: Vec<String>,
    deadline: Duration,
}

impl Registries {
    pub(super) fn new(hosts: Vec<String>, deadline: Duration) -> Self {
        Self { hosts, deadline }
    }

    /// Looks beside `wanted`, if its registry is one of ours.
    pub(super) async fn look(&self, wanted: &ImageQuery) -> Result<Box<Found>, Miss> {
        let Some((reference, plain_http)) = self.reference(wanted) else { return Err(Miss::Absent) };
        let place = format!("registry {reference}");
        let answer = tokio::time::timeout(self.deadline, fetch_bundle(&reference, plain_http)).await;
        let late = |_| Miss::NoAnswer(format!("{place} did not answer within {} s", self.deadline.as_secs()));
        let bundle: Option<Bundle> = answer.map_err(late)?.map_err(|e| Miss::NoAnswer(e.to_string()))?;
        let bundle = bundle.ok_or(Miss::Absent)?;
        check_image(&place, &bundle, wanted)?;
        Ok(Box::new(Found { bundle, place }))
    }

    /// What to ask for, by digest if that is known, and whether without TLS.
    fn reference(&self, wanted: &ImageQuery) -> Option<(String, bool)> {
        let (host, rest) = wanted.reference.split_once('/')?;
        let ours = self.hosts.iter().find(|ours| ours.strip_prefix("http://").unwrap_or(ours) == host)?;
        let reference = match wanted.manifest {
            None => wanted.reference.clone(),
            Some(manifest) => {
                let name = rest.split('@').next().unwrap_or(rest);
                let end = name.rfind(':').filter(|colon| !name[*colon..].contains('/')).unwrap_or(name.len());
                format!("{host}/{}@{manifest}", &name[..end])
            }
        };
        Some((reference, ours.starts_with("http://")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bundles::image::Digest;

    #[test]
    fn only_our_registries_are_asked_and_by_digest_if_that_is_known() {
        let hosts = vec!["registry.example.org".into(), "http://localhost:5000".into()];
        let registries = Registries::new(hosts, Duration::from_secs(1));
        let manifest = Digest::sha256(b"m");
        let asked = |reference: &str, manifest| {
            let wanted = ImageQuery { chain: None, manifest, reference: reference.into(), profile: String::new() };
            registries.reference(&wanted)
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
