//! Paths inside a container's root file system or inside a repository.

use std::fmt;

use crate::codec::{
    BorrowDecode, BorrowDecoder, BorrowReader, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Reader,
    Writer, impl_borrow_decode,
};

/// Longest accepted path in bytes: Linux's `PATH_MAX` without the terminating NUL.
pub const MAX_LEN: usize = 4095;

/// An absolute path below some root, in normal form: it starts with `/` and has no empty, `.` or `..` component and no NUL.
/// So it can be appended to any directory without leaving that directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPath(Vec<u8>);

/// The bytes are not a [`RootPath`].
#[derive(Debug, thiserror::Error)]
#[error("path {path:?} {reason}")]
pub struct PathError {
    path: String,
    reason: &'static str,
}

impl RootPath {
    /// Checks `bytes` and takes them as a path. The root itself is `/`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        Self::check(&bytes)?;
        Ok(Self(bytes))
    }

    /// Checks `bytes` without copying them.
    pub(crate) fn check(bytes: &[u8]) -> Result<(), PathError> {
        fault(bytes).map_or(Ok(()), |reason| {
            let shown = &bytes[..bytes.len().min(200)];
            Err(PathError { path: String::from_utf8_lossy(shown).into_owned(), reason })
        })
    }

    /// A path from bytes that [`check`](Self::check) accepted before.
    pub(crate) fn checked(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes, starting with `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// The parent directory; `None` for the root.
    pub fn parent(&self) -> Option<RootPath> {
        let cut = self.0.iter().rposition(|b| *b == b'/')?;
        match (self.0.len(), cut) {
            (1, _) => None,
            (_, 0) => Some(Self(b"/".to_vec())),
            _ => Some(Self(self.0[..cut].to_vec())),
        }
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// This path with one more component, which must be a plain name.
    pub fn join(&self, name: &[u8]) -> Result<RootPath, PathError> {
        let mut bytes = if self.0.len() == 1 { Vec::new() } else { self.0.clone() };
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// The path that a program in `directory` means by `path`, without `.`, `..` and doubled slashes; `None` if that is not a valid
    /// path. Symbolic links are not followed, so a `..` behind a link may lead elsewhere.
    pub fn normalize(directory: &[u8], path: &[u8]) -> Option<RootPath> {
        let base = if path.starts_with(b"/") { &[][..] } else { directory };
        let mut components = Vec::new();
        for component in base.split(|b| *b == b'/').chain(path.split(|b| *b == b'/')) {
            match component {
                b"" | b"." => {}
                b".." => drop(components.pop()),
                name => components.push(name),
            }
        }
        Self::new([b"/".as_slice(), &components.join(&b'/')].concat()).ok()
    }

    /// The first `components` components.
    pub fn first(&self, components: usize) -> RootPath {
        let first: Vec<_> = self.components().take(components).collect();
        Self([b"/", first.join(&b'/').as_slice()].concat())
    }

    /// `other` appended to this path.
    pub fn append(&self, other: &RootPath) -> Result<RootPath, PathError> {
        match (self.0.len(), other.0.len()) {
            (1, _) => Ok(other.clone()),
            (_, 1) => Ok(self.clone()),
            _ => Self::new([self.0.as_slice(), other.as_bytes()].concat()),
        }
    }
}

fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.first() != Some(&b'/') {
        return Some("is not absolute");
    }
    if bytes.len() > MAX_LEN {
        return Some("is longer than 4095 bytes");
    }
    if bytes.contains(&0) {
        return Some("holds a NUL byte");
    }
    if bytes.len() == 1 {
        return None;
    }
    let plain = bytes[1..].split(|b| *b == b'/').all(|c| !c.is_empty() && c != b"." && c != b"..");
    (!plain).then_some("holds an empty, `.` or `..` component")
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl serde::Serialize for RootPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Encode for RootPath {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        encoder.writer().write(&self.0)
    }
}

impl<C> Decode<C> for RootPath {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut bytes = vec![0; length(decoder)?];
        decoder.reader().read(&mut bytes)?;
        Self::new(bytes).map_err(|e| DecodeError::OtherString(e.to_string()))
    }
}

impl_borrow_decode!(RootPath);

/// Path bytes as a file has them, not yet checked: a reader that has seen the same path before need not check
/// it again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathBytes<'a>(pub(crate) &'a [u8]);

impl<'de, C> BorrowDecode<'de, C> for PathBytes<'de> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let length = length(decoder)?;
        decoder.borrow_reader().take_bytes(length).map(Self)
    }
}

/// The length of the path that follows in the file.
fn length<D: Decoder>(decoder: &mut D) -> Result<usize, DecodeError> {
    let length = u64::decode(decoder)?;
    if length > MAX_LEN as u64 {
        return Err(DecodeError::OtherString(format!(
            "a path of {length} bytes is too long: at most {MAX_LEN} are allowed"
        )));
    }
    decoder.claim_bytes_read(length as usize)?;
    Ok(length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_absolute_paths_are_accepted() {
        for good in ["/", "/a", "/a/b c", "/a/..b/.c", "/\u{fc}ber"] {
            assert_eq!(RootPath::new(good).unwrap().as_bytes(), good.as_bytes());
        }
        for bad in ["", "a", "a/b", "//", "/a/", "/a//b", "/..", "/a/../b", "/./a", "/a\0b"] {
            assert!(RootPath::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(RootPath::new([b"/".as_slice(), &[b'x'; MAX_LEN]].concat()).is_err());
    }

    #[test]
    fn relative_names_are_resolved_against_a_directory() {
        let cases = [
            ("a", "/usr/lib/a"),
            ("./a//b/.", "/usr/lib/a/b"),
            ("../bin", "/usr/bin"),
            ("../../../x", "/x"),
            ("/etc/../a", "/a"),
            ("", "/usr/lib"),
        ];
        for (name, expected) in cases {
            assert_eq!(RootPath::normalize(b"/usr/lib", name.as_bytes()).unwrap().to_string(), expected, "{name}");
        }
        assert!(RootPath::normalize(b"/", b"a\0b").is_none());
    }

    #[test]
    fn parent_name_and_join_are_consistent() {
        let path = RootPath::new("/usr/lib").unwrap();
        assert_eq!(path.name(), b"lib");
        assert_eq!(path.parent().unwrap().join(b"lib").unwrap(), path);
        assert_eq!(RootPath::new("/usr").unwrap().parent().unwrap().as_bytes(), b"/");
        assert!(RootPath::new("/").unwrap().parent().is_none());
        assert!(path.join(b"..").is_err());
        let below = path.append(&RootPath::new("/x").unwrap()).unwrap();
        assert_eq!(below.as_bytes(), b"/usr/lib/x");
    }
}
