//! Checks URLs of servers and proxies.

use url::Url;

/// Refuses anything but the URL of an HTTP server; the error says what to write instead.
pub fn check_http(text: &str) -> Result<(), String> {
    let fix = "write it as http://host:port/path";
    let url = Url::parse(text).map_err(|e| format!("{text:?} is not a URL ({e}); {fix}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(()),
        _ => Err(format!("{text:?} is not an HTTP URL; {fix}")),
    }
}
