//! One call of `Prefetch`, checked.

use std::time::Duration;

use bundles::bundle::Bundle;
use bundles::codec::BadFile;

use crate::api::{PrefetchRequest, Priority};
use crate::wanted::{BadImage, Wanted};

/// The most bytes of a bundle that comes with a call. One of a million objects has less.
pub const MAX_BUNDLE: usize = 64 << 20;
/// The most characters of a caller's own name for what it does.
const MAX_CORRELATION: usize = 128;
/// A deadline further away is none that anybody waits for, and must not overflow a clock.
const MAX_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What somebody asks for, and how.
#[derive(Debug)]
pub struct Asked {
    /// The image.
    pub wanted: Wanted,
    /// Its bundle, if the caller has it.
    pub bundle: Option<Box<Bundle>>,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it may take.
    pub deadline: Option<Duration>,
    /// The caller's name for it.
    pub correlation_id: String,
}

/// A call that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadCall {
    /// The image cannot be looked for.
    #[error(transparent)]
    Image(#[from] BadImage),
    /// More bytes than are taken.
    #[error("bundle: {0} bytes, at most {MAX_BUNDLE} are taken")]
    LargeBundle(usize),
    /// The bytes are no bundle.
    #[error("bundle: {0}")]
    Bundle(#[from] BadFile),
    /// The image that is named is not the bundle's.
    #[error("bundle: it is for the image {0}, not for the one that the request names")]
    OtherImage(String),
}

impl Asked {
    /// Checks what came over the API. Decodes a bundle, which takes a while.
    pub fn from_api(call: PrefetchRequest) -> Result<Self, BadCall> {
        let priority = match call.priority() {
            Priority::Unspecified => Priority::Normal,
            priority => priority,
        };
        let deadline = (call.deadline_ms > 0).then(|| Duration::from_millis(call.deadline_ms).min(MAX_DEADLINE));
        let is_printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
        let correlation_id = call.correlation_id.chars().take(MAX_CORRELATION).filter(is_printable).collect();
        let image = call.image.unwrap_or_default();
        let (wanted, bundle) = match call.bundle.len() {
            0 => (Wanted::from_api(image)?, None),
            1..=MAX_BUNDLE => {
                let bundle = Bundle::from_bytes(&call.bundle)?;
                let wanted = Wanted::of_bundle(&bundle.image, image)?;
                let other = || BadCall::OtherImage(bundle.image.chain_id.to_string());
                (wanted.ok_or_else(other)?, Some(Box::new(bundle)))
            }
            size => return Err(BadCall::LargeBundle(size)),
        };
        Ok(Self { wanted, bundle, priority, deadline, correlation_id })
    }

    /// An image that has another bundle now. Nobody waits for it.
    pub fn renewal(wanted: Wanted) -> Self {
        let correlation_id = "renewal".to_owned();
        Self { wanted, bundle: None, priority: Priority::Low, deadline: None, correlation_id }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::Image;
    use bundles::image::{ChainId, Digest, ImageId};

    fn bundle() -> Bundle {
        let chain_id = ChainId(Digest::of(b"image"));
        Bundle::of(ImageId { chain_id, manifest: None, reference: "r".into() }, "unpacked.test.example")
    }

    fn named(chain: &Digest) -> Option<Image> {
        Some(Image { chain_id: chain.to_string(), profile: "fit".into(), ..Image::default() })
    }

    #[test]
    fn a_call_has_sense_or_is_refused_with_a_reason() {
        let (own, other) = (Digest::of(b"image"), Digest::of(b"other"));
        let with = |image, bundle| Asked::from_api(PrefetchRequest { image, bundle, ..PrefetchRequest::default() });
        let bytes = bundle().to_bytes().unwrap();
        let profile = Some(Image { profile: "fit".into(), ..Image::default() });
        for (image, profile) in [(None, ""), (named(&own), "fit"), (profile, "fit")] {
            let asked = with(image, bytes.clone()).unwrap();
            assert_eq!((asked.wanted.chain, &*asked.wanted.profile), (Some(ChainId(own)), profile));
            assert_eq!(asked.bundle.as_deref(), Some(&bundle()));
        }
        for (image, bundle, expected) in [
            (None, vec![], "no name"),
            (named(&other), bytes, "not for the one that the request names"),
            (None, b"spoilt".to_vec(), "bundle: "),
            (None, vec![0; MAX_BUNDLE + 1], "at most 67108864"),
        ] {
            let message = with(image, bundle).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_callers_write_is_bounded() {
        let asked = |deadline_ms, correlation_id: String| {
            let image = named(&Digest::of(b"image"));
            Asked::from_api(PrefetchRequest { image, deadline_ms, correlation_id, ..Default::default() }).unwrap()
        };
        assert_eq!(asked(0, "a\nb\u{1b}[1m \u{20ac}".into()).correlation_id, "ab[1m ");
        assert_eq!(asked(0, "x".repeat(1000)).correlation_id.len(), MAX_CORRELATION);
        assert_eq!(asked(0, String::new()).deadline, None);
        assert_eq!(asked(u64::MAX, String::new()).deadline, Some(MAX_DEADLINE));
        assert_eq!(asked(0, String::new()).priority, Priority::Normal);
    }
}
