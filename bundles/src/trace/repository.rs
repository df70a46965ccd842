//! CVMFS repositories mounted in the container.

use serde::Serialize;

use crate::codec::{self, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, impl_borrow_decode};
use crate::layout::{MAX_REPOSITORY_NAME, is_repository_name};
use crate::path::RootPath;

/// Most repositories of a trace. A node mounts some dozens; this bounds what a reader keeps.
pub(super) const MAX: usize = 4_096;

/// A CVMFS repository mounted in the container. Files below it do not belong to the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountedRepository {
    /// Mount point as the container sees it.
    pub path: RootPath,
    /// The repository's fully qualified name. An invalid name can neither be written nor read.
    pub name: String,
}

impl Encode for MountedRepository {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if is_repository_name(&self.name) {
            (&self.path, &self.name).encode(encoder)
        } else {
            Err(EncodeError::OtherString(format!("{:?} is not a repository name", self.name)))
        }
    }
}

impl<C> Decode<C> for MountedRepository {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let path = RootPath::decode(decoder)?;
        let name = codec::text(decoder, "a repository name", MAX_REPOSITORY_NAME)?;
        if is_repository_name(&name) {
            Ok(Self { path, name })
        } else {
            Err(DecodeError::OtherString(format!("{name:?} is not a repository name")))
        }
    }
}

impl_borrow_decode!(MountedRepository);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::plain;

    #[test]
    fn only_repository_names_are_accepted() {
        let long = ["x".repeat(62).as_str(); 5].join(".");
        for (name, good) in [
            ("sft.cern.ch", true),
            (&long[..255], true),
            (&long, false),
            ("", false),
            ("localhost", false),
            ("a..b", false),
            ("a.b/c", false),
        ] {
            let path = RootPath::new("/cvmfs/x").unwrap();
            let repository = MountedRepository { path: path.clone(), name: name.into() };
            assert_eq!(plain::encode(&repository).is_ok(), good, "{name}");
            let bytes = plain::encode((&path, name)).unwrap();
            let decoded = plain::decode::<MountedRepository>(&bytes).map(|(value, _)| value);
            assert_eq!(decoded.ok(), good.then_some(repository), "{name}");
        }
    }
}
