//! Reading responses whose length the server decides.

use futures::StreamExt;
use reqwest::{Response, Url};

use super::RegistryError;

/// Most characters of an error response that are shown.
const MAX_MESSAGE: u64 = 500;

/// Reads a body of at most `limit` bytes. A response that announces more is not read at all.
pub(super) async fn read(response: Response, limit: u64) -> Result<Vec<u8>, RegistryError> {
    let url = display(response.url());
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(RegistryError::TooLong { url, limit });
    }
    let (mut content, mut body) = (Vec::new(), response.bytes_stream());
    while let Some(part) = body.next().await {
        let part = part.map_err(|e| transfer_error(&url, e))?;
        if (content.len() + part.len()) as u64 > limit {
            return Err(RegistryError::TooLong { url, limit });
        }
        content.extend_from_slice(&part);
    }
    Ok(content)
}

/// The message of an error response: from the JSON of the specification, or else the beginning of the body.
pub(super) async fn error_message(response: Response) -> String {
    let text = match read(response, 64 << 10).await {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(e) => return e.to_string(),
    };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let first = &json["errors"][0];
    let message = [&first["code"], &first["message"]].map(|value| value.as_str().unwrap_or_default()).join(" ");
    let text = if message.trim().is_empty() { text } else { message };
    text.trim().chars().take(MAX_MESSAGE as usize).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A URL for messages, without its query, which may be a signature that grants access.
pub(super) fn display(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail for URLs without a host only, which have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// An error of the HTTP client with its causes, without its URL.
pub(super) fn transfer_error(url: &str, error: reqwest::Error) -> RegistryError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(e) = cause {
        reason = format!("{reason}: {e}");
        cause = e.source();
    }
    RegistryError::Transfer { url: url.to_owned(), reason }
}
