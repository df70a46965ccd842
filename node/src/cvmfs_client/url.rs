//! Checks URLs of servers and proxies.

use url::Url;

/// What to write instead of a URL that cannot be used.
const FORM: &str = "write it as http://host:port/path";

/// A text that is not the URL of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text is not a URL.
    #[error("{text:?} is not a URL ({source}); {FORM}")]
    Syntax {
        /// The text.
        text: String,
        /// Error of the parser.
        source: url::ParseError,
    },
    /// A URL with another scheme, or without a host.
    #[error("{0:?} is not an HTTP URL; {FORM}")]
    NotHttp(String),
}

/// Refuses anything but the URL of an HTTP server.
pub fn check_http(text: &str) -> Result<(), UrlError> {
    let url = Url::parse(text).map_err(|source| UrlError::Syntax { text: text.to_owned(), source })?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(()),
        _ => Err(UrlError::NotHttp(text.to_owned())),
    }
}
