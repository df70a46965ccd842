//! The image that somebody asks for, by the names that are known of it.

use api::proto;
use bundles::image::{ChainId, Digest, ImageId, ParseDigestError};

/// Maximum length of references and names of profiles; longer ones are truncated. No profile has a name that long.
const MAX_TEXT: usize = 1024;

/// At least one name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageQuery {
    /// Chain ID of the topmost layer.
    pub chain: Option<ChainId>,
    /// Digest of the manifest.
    pub manifest: Option<Digest>,
    /// For people; looked for only if there is no other name.
    pub reference: String,
    /// The part of its bundle to fetch beside the common one; empty for all.
    pub profile: String,
}

/// An image that cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ImageQueryError {
    /// No name.
    #[error("the image has no name: give its chain_id, its manifest_digest or its reference")]
    Nameless,
    /// A name of the wrong form.
    #[error("{field}: {source}")]
    Digest {
        /// The field of `Image`.
        field: &'static str,
        /// What is wrong with it.
        source: ParseDigestError,
    },
}

impl ImageQuery {
    /// Checks what came over the API.
    pub fn from_api(image: proto::Image) -> Result<Self, ImageQueryError> {
        let query = Self::named(image)?;
        if query.is_nameless() {
            return Err(ImageQueryError::Nameless);
        }
        Ok(query)
    }

    /// The image of a bundle that the caller brings, as far as `image` does not name another one.
    pub fn of_bundle(known: &ImageId, image: proto::Image) -> Result<Option<Self>, ImageQueryError> {
        let named = Self::named(image)?;
        let query = Self {
            chain: Some(known.chain_id),
            manifest: known.manifest,
            reference: cut(known.reference.clone()),
            profile: named.profile.clone(),
        };
        Ok((named.is_nameless() || named.is(known)).then_some(query))
    }

    fn named(image: proto::Image) -> Result<Self, ImageQueryError> {
        let chain = parse("chain_id", &image.chain_id)?;
        let manifest = parse("manifest_digest", &image.manifest_digest)?;
        Ok(Self { chain, manifest, reference: cut(image.reference), profile: cut(image.profile) })
    }

    fn is_nameless(&self) -> bool {
        self.chain.is_none() && self.manifest.is_none() && self.reference.is_empty()
    }

    /// The reference, if there is no better name.
    pub fn only_reference(&self) -> Option<&str> {
        (self.chain.is_none() && self.manifest.is_none()).then_some(self.reference.as_str())
    }

    /// For answers over the API.
    pub fn to_api(&self) -> proto::Image {
        proto::Image {
            chain_id: self.chain.map(|c| c.to_string()).unwrap_or_default(),
            manifest_digest: self.manifest.map(|d| d.to_string()).unwrap_or_default(),
            reference: self.reference.clone(),
            profile: self.profile.clone(),
        }
    }

    /// Whether a search for `self` is also one for `other`: it has all of its names, and brings all that it wants.
    pub fn covers(&self, other: &ImageQuery) -> bool {
        // A tag moves: what was made for a reference is not what has it now.
        self.only_reference() == other.only_reference()
            && (other.chain.is_none() || other.chain == self.chain)
            && (other.manifest.is_none() || other.manifest == self.manifest)
            && (self.profile.is_empty() || other.profile == self.profile)
    }

    /// Whether `image` has one of the names.
    pub fn is(&self, image: &ImageId) -> bool {
        match self.only_reference() {
            Some(reference) => reference == image.reference,
            None => self.chain == Some(image.chain_id) || (self.manifest.is_some() && self.manifest == image.manifest),
        }
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&i| text.is_char_boundary(i));
    text.truncate(end.unwrap_or(0));
    text
}

fn parse<T: std::str::FromStr<Err = ParseDigestError>>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, ImageQueryError> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|source| ImageQueryError::Digest { field, source }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn image(chain: &str, manifest: &str) -> proto::Image {
        proto::Image {
            chain_id: chain.into(),
            manifest_digest: manifest.into(),
            reference: "r".into(),
            profile: String::new(),
        }
    }

    #[test]
    fn an_image_needs_a_well_formed_name() {
        let (a, b) = (Digest::sha256(b"a").to_string(), Digest::sha256(b"b").to_string());
        for (chain, manifest) in [(&*a, ""), ("", &*a), (&*a, &*b)] {
            assert_eq!(ImageQuery::from_api(image(chain, manifest)).unwrap().to_api(), image(chain, manifest));
        }
        for (chain, manifest, expected) in
            [("", "", "chain_id, "), ("x", "", "chain_id: "), (&*a, "sha512:00", "manifest_digest: ")]
        {
            let nameless = proto::Image { reference: String::new(), ..image(chain, manifest) };
            let message = ImageQuery::from_api(nameless).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(ImageQuery::from_api(image("", "")).unwrap().only_reference(), Some("r"));
        assert_eq!(ImageQuery::from_api(image(&a, "")).unwrap().only_reference(), None);
        let long = proto::Image { reference: "\u{20ac}".repeat(1000), ..image(&a, "") };
        assert_eq!(ImageQuery::from_api(long).unwrap().reference.len(), 1023);
    }

    #[test]
    fn a_search_covers_another_if_it_has_its_names() {
        let (a, b) = (Digest::sha256(b"a").to_string(), Digest::sha256(b"b").to_string());
        let query = |chain: &str, manifest: &str| ImageQuery::from_api(image(chain, manifest)).unwrap();
        let both = query(&a, &b);
        assert!(both.covers(&both) && both.covers(&query(&a, "")) && both.covers(&query("", &b)));
        assert!(!query(&a, "").covers(&both) && !query("", &b).covers(&both));
        assert!(!both.covers(&query(&b, "")) && !both.covers(&query(&a, &a)));
        let tag = query("", "");
        let other_tag = ImageQuery { reference: "s".into(), ..tag.clone() };
        assert!(tag.covers(&tag) && !tag.covers(&other_tag) && !tag.covers(&both) && !both.covers(&tag));
    }
}
