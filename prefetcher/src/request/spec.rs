//! One call of `Prefetch`, checked.

use std::time::Duration;

use api::limits::LEAST_BYTES_PER_SECOND;
use api::proto::{PrefetchRequest, Priority};

use super::image_query::{ImageQuery, ImageQueryError};
use crate::bundle_memory::HeldBundle;

/// The most characters of a caller's own name for what it does.
const MAX_CORRELATION: usize = 128;
/// A deadline further away is none that anybody waits for, and must not overflow a clock.
const MAX_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What somebody asks for, and how.
#[derive(Debug)]
pub struct PrefetchSpec {
    /// The image.
    pub query: ImageQuery,
    /// Its bundle, if the caller has it.
    pub bundle: Option<HeldBundle>,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it may take.
    pub deadline: Option<Duration>,
    /// The caller's name for it.
    pub correlation_id: String,
    /// How many bytes a second it may take.
    pub bytes_per_second: Option<u64>,
}

/// A call that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The image cannot be looked for.
    #[error(transparent)]
    Image(#[from] ImageQueryError),
    /// The image that is named is not the bundle's.
    #[error("bundle: it is for the image {0}, not for the one that the request names")]
    OtherImage(String),
    /// A limit that is as good as none at all.
    #[error("bytes_per_second: {0} brings no object in time; at least {LEAST_BYTES_PER_SECOND}, or 0 for no limit")]
    Slow(u64),
}

impl PrefetchSpec {
    /// Checks what came over the API. `bundle` is the decoded bundle of the call.
    pub fn from_api(call: PrefetchRequest, bundle: Option<HeldBundle>) -> Result<Self, SpecError> {
        let priority = match call.priority() {
            Priority::Unspecified => Priority::Normal,
            priority => priority,
        };
        let deadline = (call.deadline_ms > 0).then(|| Duration::from_millis(call.deadline_ms).min(MAX_DEADLINE));
        let bytes_per_second = match call.bytes_per_second {
            0 => None,
            limit @ 1..LEAST_BYTES_PER_SECOND => return Err(SpecError::Slow(limit)),
            limit => Some(limit),
        };
        let is_printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
        let correlation_id = call.correlation_id.chars().take(MAX_CORRELATION).filter(is_printable).collect();
        let image = call.image.unwrap_or_default();
        let query = match &bundle {
            None => ImageQuery::from_api(image)?,
            Some(bundle) => {
                let query = ImageQuery::of_bundle(&bundle.image, image)?;
                query.ok_or_else(|| SpecError::OtherImage(bundle.image.chain_id.to_string()))?
            }
        };
        Ok(Self { query, bundle, priority, deadline, correlation_id, bytes_per_second })
    }

    /// An image that has another bundle now. Nobody waits for it.
    pub fn renewal(query: ImageQuery) -> Self {
        let correlation_id = "renewal".to_owned();
        let (bundle, deadline, bytes_per_second) = (None, None, None);
        Self { query, bundle, priority: Priority::Low, deadline, correlation_id, bytes_per_second }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use api::proto::Image;
    use bundles::bundle::Bundle;
    use bundles::image::{ChainId, Digest, ImageId};

    fn bundle() -> Bundle {
        let chain_id = ChainId(Digest::sha256(b"image"));
        Bundle::new(ImageId { chain_id, manifest: None, reference: "r".into() }, "unpacked.test.example")
    }

    fn named(chain: &Digest) -> Option<Image> {
        Some(Image { chain_id: chain.to_string(), profile: "fit".into(), ..Image::default() })
    }

    #[test]
    fn a_call_has_sense_or_is_refused_with_a_reason() {
        let (own, other) = (Digest::sha256(b"image"), Digest::sha256(b"other"));
        let with = |image, bundle: Option<Bundle>| {
            let call = PrefetchRequest { image, ..PrefetchRequest::default() };
            PrefetchSpec::from_api(call, bundle.map(HeldBundle::for_test))
        };
        let profile = Some(Image { profile: "fit".into(), ..Image::default() });
        for (image, profile) in [(None, ""), (named(&own), "fit"), (profile, "fit")] {
            let asked = with(image, Some(bundle())).unwrap();
            assert_eq!((asked.query.chain, &*asked.query.profile), (Some(ChainId(own)), profile));
            assert_eq!(asked.bundle.as_deref(), Some(&bundle()));
        }
        for (image, bundle, expected) in
            [(None, None, "no name"), (named(&other), Some(bundle()), "not for the one that the request names")]
        {
            let message = with(image, bundle).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_limit_is_none_or_enough() {
        let limit = |bytes_per_second| {
            let image = named(&Digest::sha256(b"image"));
            let asked = PrefetchSpec::from_api(PrefetchRequest { image, bytes_per_second, ..Default::default() }, None);
            asked.map(|asked| asked.bytes_per_second).map_err(|error| error.to_string())
        };
        assert_eq!((limit(0), limit(1024)), (Ok(None), Ok(Some(1024))));
        for slow in [1, 1023] {
            assert!(limit(slow).unwrap_err().contains("at least 1024"));
        }
    }

    #[test]
    fn what_callers_write_is_bounded() {
        let asked = |deadline_ms, correlation_id: String| {
            let image = named(&Digest::sha256(b"image"));
            PrefetchSpec::from_api(PrefetchRequest { image, deadline_ms, correlation_id, ..Default::default() }, None)
                .unwrap()
        };
        assert_eq!(asked(0, "a\nb\u{1b}[1m \u{20ac}".into()).correlation_id, "ab[1m ");
        assert_eq!(asked(0, "x".repeat(1000)).correlation_id.len(), MAX_CORRELATION);
        assert_eq!(asked(0, String::new()).deadline, None);
        assert_eq!(asked(u64::MAX, String::new()).deadline, Some(MAX_DEADLINE));
        assert_eq!(asked(0, String::new()).priority, Priority::Normal);
    }
}
