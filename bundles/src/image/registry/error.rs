//! What can go wrong with a registry. Nothing secret is in any of it: no password, no token, no query of a signed URL.

/// Why a registry's answer cannot be had, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not an image reference.
    #[error("{reference:?} is not an image reference: {why}")]
    Reference {
        /// The text.
        reference: String,
        /// What is wrong.
        why: String,
    },
    /// The login for it cannot be read.
    #[error("cannot read the login for {registry} from {file}: {why}")]
    Login {
        /// The registry.
        registry: String,
        /// Where logins are kept.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// It does not let us in.
    #[error("{registry} refuses: {why}")]
    Refused {
        /// The registry.
        registry: String,
        /// What it refuses, and what to do.
        why: String,
    },
    /// It did not answer.
    #[error("{url}: {why}")]
    Transfer {
        /// What was asked for.
        url: String,
        /// Why.
        why: String,
    },
    /// It answered something else than what it should.
    #[error("{url}: the registry answers {status}: {said}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it says about it.
        said: String,
    },
    /// It sends more than it may.
    #[error("{url}: the answer is longer than the {limit} bytes that it may have")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The most that is taken.
        limit: u64,
    },
    /// It sends something else than what was asked for.
    #[error("{url}: expected content with the digest {expected}, got {found}")]
    Digest {
        /// What was asked for.
        url: String,
        /// Its digest.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// It was given, but makes no sense.
    #[error("{reference}: {why}")]
    Malformed {
        /// The image.
        reference: String,
        /// What is wrong.
        why: String,
    },
}
