//! CVMFS inside the container.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;

use crate::bundle::is_fqrn;
use crate::codec;
use crate::path::RootPath;

/// The longest name of a repository in bytes: that of a host.
const MAX_NAME: usize = 255;

/// The most repositories of a trace. A node mounts some dozens; this bounds what a reader keeps of them.
pub(super) const MAX: usize = 4_096;

/// A CVMFS repository that is mounted in the container. Files below are not the image's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountedRepository {
    /// Where, seen from inside the container.
    pub path: RootPath,
    /// The repository's fully qualified name. One that is none can neither be written nor read.
    pub name: String,
}

impl bincode::Encode for MountedRepository {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match is_fqrn(&self.name) {
            true => (&self.path, &self.name).encode(encoder),
            false => Err(EncodeError::OtherString(format!("{:?} is not a repository name", self.name))),
        }
    }
}

impl<C> bincode::Decode<C> for MountedRepository {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let path = RootPath::decode(decoder)?;
        let name = codec::text(decoder, "a repository's name", MAX_NAME)?;
        match is_fqrn(&name) {
            true => Ok(Self { path, name }),
            false => Err(DecodeError::OtherString(format!("{name:?} is not a repository name"))),
        }
    }
}

bincode::impl_borrow_decode!(MountedRepository);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_repositories() {
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
            let config = bincode::config::standard();
            let repository = MountedRepository { path: path.clone(), name: name.into() };
            assert_eq!(bincode::encode_to_vec(&repository, config).is_ok(), good, "{name}");
            let bytes = bincode::encode_to_vec((&path, name), config).unwrap();
            let decoded = bincode::decode_from_slice::<MountedRepository, _>(&bytes, config).map(|(value, _)| value);
            assert_eq!(decoded.ok(), good.then_some(repository), "{name}");
        }
    }
}
