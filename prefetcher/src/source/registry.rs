//! Bundles that are stored beside their images in a registry.
//!
//! Only configured registries are used, so that a client of the daemon's socket cannot choose which hosts the daemon connects to.
//!
//! Registries limit how many requests an address may send, and a node that has used up that limit pulls no images. So a registry is
//! asked about an image at most once in [`AGAIN_AFTER`], whatever its answer was, first with HEAD requests, and not at all for as long as
//! it demands after a response 429. Renewals ask repositories only.

use std::sync::Arc;
use std::time::Duration;

use api::limits::MAX_BUNDLE;
use bundles::image::Digest;
use bundles::registry::{RegistryError, bundle_artifact, fetch_bundle_file};
use bundles::store::Origin;
use tokio::sync::Semaphore;

use super::lookup::{Fetched, LookupError, check_image};
use super::remembered::Remembered;
use crate::bundle_memory::BundleMemory;
use crate::request::image_query::ImageQuery;

/// A registry is not asked about an image again for this long after it has answered.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// A registry is not asked about an image again for this long after it has not answered.
const AFTER_NO_ANSWER: Duration = Duration::from_secs(60);

/// The configured registries.
#[derive(Debug)]
pub(super) struct Registries {
    /// Host names, with a port unless it is the default; `http://` before those without TLS.
    hosts: Vec<String>,
    timeout: Duration,
    /// What registries said last, by reference, except for bundles that were found.
    answers: Remembered<String, LookupError>,
    /// The artifacts that registries named last, by reference; `None`: there is none any more.
    artifacts: Remembered<String, Option<Digest>>,
    /// Hosts that demand a pause.
    paused: Remembered<String, ()>,
    /// One file is in memory at a time.
    reading: Arc<Semaphore>,
}

/// An image in a configured registry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    host: String,
    /// By digest if it is known.
    text: String,
    plain_http: bool,
}

impl Registries {
    pub(super) fn new(hosts: Vec<String>, timeout: Duration) -> Self {
        Self {
            hosts,
            timeout,
            answers: Remembered::default(),
            artifacts: Remembered::default(),
            paused: Remembered::default(),
            reading: Arc::new(Semaphore::new(1)),
        }
    }

    /// Looks up the bundle of `query` if its registry is configured.
    pub(super) async fn find(&self, query: &ImageQuery, memory: &BundleMemory) -> Result<Box<Fetched>, LookupError> {
        let reference = self.reference(query).ok_or(LookupError::Absent)?;
        if let Some(answer) = self.answers.get(&reference.text) {
            return Err(answer);
        }
        self.check_pause(&reference)?;
        let result = self.fetch(&reference, query, memory).await;
        if let Err(error) = &result {
            let ttl = if matches!(error, LookupError::NoAnswer(_)) { AFTER_NO_ANSWER } else { AGAIN_AFTER };
            self.answers.remember(reference.text, error.clone(), ttl);
        }
        result
    }

    async fn fetch(
        &self,
        reference: &Reference,
        query: &ImageQuery,
        memory: &BundleMemory,
    ) -> Result<Box<Fetched>, LookupError> {
        let source = format!("registry {}", reference.text);
        let work = async {
            let reading = self.reading.clone().acquire_owned().await;
            let reading = reading.map_err(|error| LookupError::NoAnswer(error.to_string()))?;
            let fetched = fetch_bundle_file(&reference.text, reference.plain_http, MAX_BUNDLE as u64).await;
            Ok((reading, fetched.map_err(|error| self.failed(reference, &error))?))
        };
        let (reading, found) = self.within_timeout(&source, work).await?;
        let mut found = found.ok_or(LookupError::Absent)?;
        let file = Arc::new(std::mem::take(&mut found.file));
        let bundle = memory.decode(&file).await.map_err(|error| LookupError::not_decoded(&source, &error))?;
        found.check(&bundle).map_err(|reason| LookupError::Unusable(format!("{source}: {reason}")))?;
        check_image(&source, &bundle, query)?;
        let manifest = found.image.manifest.ok_or(LookupError::Absent)?;
        let image = format!("{}@{manifest}", repository(&reference.text));
        self.artifacts.remember(image.clone(), Some(found.artifact), AGAIN_AFTER);
        let origin = Origin::Registry { image, artifact: found.artifact };
        Ok(Box::new(Fetched { bundle, file, source, origin, _reading: reading }))
    }

    /// The artifact that is the bundle of `image` now, which is a reference by digest; `None` if there is none any more. What the
    /// registry said within [`AGAIN_AFTER`] counts as now.
    pub(super) async fn artifact(&self, image: &str) -> Result<Option<Digest>, LookupError> {
        if let Some(artifact) = self.artifacts.get(image) {
            return Ok(artifact);
        }
        if let Some(answer) = self.answers.get(image) {
            return Err(answer);
        }
        let (_, digest) = image.rsplit_once('@').ok_or(LookupError::Absent)?;
        let manifest: Digest = digest.parse().map_err(|_| LookupError::Absent)?;
        let reference = self.configured(image, image.to_owned()).ok_or(LookupError::Absent)?;
        self.check_pause(&reference)?;
        let work = async {
            let artifact = bundle_artifact(image, &manifest, reference.plain_http).await;
            artifact.map_err(|error| self.failed(&reference, &error))
        };
        let result = self.within_timeout(&format!("registry {image}"), work).await;
        match &result {
            Ok(artifact) => self.artifacts.remember(image.to_owned(), *artifact, AGAIN_AFTER),
            Err(error) => self.answers.remember(image.to_owned(), error.clone(), AFTER_NO_ANSWER),
        }
        result
    }

    /// Forgets what registries said about the image of `query`.
    pub(super) fn forget(&self, query: &ImageQuery) {
        let text = self.reference(query).map(|reference| reference.text);
        let manifest = query.manifest.map(|manifest| manifest.to_string());
        let is_named = |reference: &String| {
            text.as_ref() == Some(reference) || manifest.as_ref().is_some_and(|manifest| reference.ends_with(manifest))
        };
        self.answers.forget(is_named);
        self.artifacts.forget(is_named);
    }

    fn check_pause(&self, reference: &Reference) -> Result<(), LookupError> {
        let pause = || LookupError::NoAnswer(format!("registry {} has demanded a pause (status 429)", reference.host));
        self.paused.get(&reference.host).map_or(Ok(()), |()| Err(pause()))
    }

    fn failed(&self, reference: &Reference, error: &RegistryError) -> LookupError {
        match error {
            RegistryError::TooManyRequests { wait, .. } => {
                self.paused.remember(reference.host.clone(), (), *wait);
                LookupError::NoAnswer(error.to_string())
            }
            RegistryError::Malformed { .. } | RegistryError::Digest { .. } | RegistryError::TooLong { .. } => {
                LookupError::Unusable(error.to_string())
            }
            _ => LookupError::NoAnswer(error.to_string()),
        }
    }

    async fn within_timeout<T>(
        &self,
        source: &str,
        work: impl Future<Output = Result<T, LookupError>>,
    ) -> Result<T, LookupError> {
        let late =
            |_| LookupError::NoAnswer(format!("{source} did not respond within {} s", self.timeout.as_secs_f32()));
        tokio::time::timeout(self.timeout, work).await.map_err(late)?
    }

    /// The reference to look up.
    fn reference(&self, query: &ImageQuery) -> Option<Reference> {
        let text = match query.manifest {
            None => query.reference.clone(),
            Some(manifest) => format!("{}@{manifest}", repository(&query.reference)),
        };
        self.configured(&query.reference, text)
    }

    /// `text` as a reference, if the registry of `name` is configured.
    fn configured(&self, name: &str, text: String) -> Option<Reference> {
        let (host, _) = name.split_once('/')?;
        let is_registry = |configured: &&String| configured.strip_prefix("http://").unwrap_or(configured) == host;
        let registry = self.hosts.iter().find(is_registry)?;
        Some(Reference { host: host.to_owned(), text, plain_http: registry.starts_with("http://") })
    }
}

/// A reference without its tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let end = name.rfind(':').filter(|colon| !name[*colon..].contains('/')).unwrap_or(name.len());
    &name[..end]
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
            registries.reference(&query).map(|reference| (reference.text, reference.plain_http))
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
