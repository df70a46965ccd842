//! Errors of registries. They contain no secrets: no password, no token, no query of a signed URL.

/// A registry cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The text is not an image reference.
    #[error("{reference:?} is not an image reference: {reason}")]
    Reference {
        /// The text that was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The login for the registry cannot be read.
    #[error("cannot read the login for {registry} from {file}: {reason}")]
    Login {
        /// Host of the registry.
        registry: String,
        /// The file that holds the login.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry denies access.
    #[error("registry {registry}: {reason}")]
    Refused {
        /// Host of the registry.
        registry: String,
        /// What was denied, and what to do.
        reason: String,
    },
    /// The registry has answered too many requests for now.
    #[error("registry {registry}: too many requests (status 429); it is not asked again for {} s", wait.as_secs())]
    TooManyRequests {
        /// Host of the registry.
        registry: String,
        /// How long to wait: its header `Retry-After`, if that is a number of seconds.
        wait: std::time::Duration,
    },
    /// The transfer failed.
    #[error("{url}: {reason}")]
    Transfer {
        /// The requested URL.
        url: String,
        /// Cause of the failure.
        reason: String,
    },
    /// The registry answered with an unexpected status.
    #[error("{url}: the registry answered {status}: {message}")]
    Status {
        /// The requested URL.
        url: String,
        /// HTTP status.
        status: u16,
        /// Error message of the registry.
        message: String,
    },
    /// The response is longer than allowed.
    #[error("{url}: the response is longer than {limit} bytes")]
    TooLong {
        /// The requested URL.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content does not have the requested digest.
    #[error("{url}: expected content with the digest {expected}, got {found}")]
    Digest {
        /// The requested URL.
        url: String,
        /// The requested digest.
        expected: String,
        /// Digest of the content that came.
        found: String,
    },
    /// The content was transferred, but is not valid.
    #[error("{reference}: {reason}")]
    Malformed {
        /// The image or repository.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
}
