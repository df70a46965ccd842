//! Taking answers whose length somebody else decides.

use futures::StreamExt;
use reqwest::{Response, Url};

use super::RegistryError;

/// The most bytes of an error's text that are shown.
const MAX_SAID: u64 = 500;

/// The body, of at most `limit` bytes. What claims to be longer is not even begun.
pub(super) async fn read(answer: Response, limit: u64) -> Result<Vec<u8>, RegistryError> {
    let url = shown(answer.url());
    if answer.content_length().is_some_and(|length| length > limit) {
        return Err(RegistryError::TooLong { url, limit });
    }
    let (mut content, mut body) = (Vec::new(), answer.bytes_stream());
    while let Some(part) = body.next().await {
        let part = part.map_err(|e| failed(&url, e))?;
        if (content.len() + part.len()) as u64 > limit {
            return Err(RegistryError::TooLong { url, limit });
        }
        content.extend_from_slice(&part);
    }
    Ok(content)
}

/// What an answer says that is an error: the message of the specification's JSON, or the beginning of whatever it is.
pub(super) async fn said(answer: Response) -> String {
    let text = match read(answer, 64 << 10).await {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(e) => return e.to_string(),
    };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let first = &json["errors"][0];
    let message = [&first["code"], &first["message"]].map(|value| value.as_str().unwrap_or_default()).join(" ");
    let text = if message.trim().is_empty() { text } else { message };
    text.trim().chars().take(MAX_SAID as usize).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A URL for people. Its query may be a signature that lets its bearer in.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let (_, _) = (url.set_username(""), url.set_password(None));
    url.to_string()
}

/// An error of the HTTP client, with its causes, without its URL.
pub(super) fn failed(url: &str, error: reqwest::Error) -> RegistryError {
    let error = error.without_url();
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(e) = cause {
        why = format!("{why}: {e}");
        cause = e.source();
    }
    RegistryError::Transfer { url: url.to_owned(), why }
}
