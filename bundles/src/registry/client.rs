//! A client for one repository of a registry: OCI distribution specification 1.1.
//!
//! The crate `oci-client` parses references and gets tokens. Its transfers are not used: they accept bodies of any length and do
//! not return the header `OCI-Subject`.

use std::path::Path;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};

use super::artifact::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, MAX_MANIFEST};
use super::body::{display, error_message, read, transfer_error};
use super::{RegistryError, login};
use crate::image::Digest;

/// Media types of all manifests that an image reference may lead to.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
/// Timeout for a small response.
const SHORT: Duration = Duration::from_secs(60);
/// Timeout for the transfer of a blob.
const LONG: Duration = Duration::from_secs(30 * 60);
/// How long to wait after a response 429 without a number of seconds.
const DEFAULT_WAIT: Duration = Duration::from_secs(15 * 60);
/// How long to wait at most, whatever the registry says.
const MAX_WAIT: Duration = Duration::from_secs(6 * 3600);
/// Most redirects that are followed: registries redirect readers to their blob storage.
const MAX_REDIRECTS: usize = 5;

/// The rights that a client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Pull only.
    Read,
    /// Pull and push.
    Write,
}

/// A client for one repository of a registry.
pub(crate) struct Client {
    http: reqwest::Client,
    reference: Reference,
    base: Url,
    authorization: Option<HeaderValue>,
    login: String,
}

/// A manifest or index as the registry sent it.
pub(crate) struct RawManifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Client {
    /// Opens the repository of `reference`, with this user's login for its registry.
    pub(crate) async fn open(reference: &str, plain_http: bool, right: Right) -> Result<Self, RegistryError> {
        let malformed = |reason: String| RegistryError::Reference { reference: reference.to_owned(), reason };
        let parsed: Reference = reference.parse().map_err(|e: oci_client::ParseError| malformed(e.to_string()))?;
        let registry = parsed.resolve_registry().to_owned();
        let scheme = if plain_http { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{registry}/v2/{}/", parsed.repository()));
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(30))
            .redirect(Policy::custom(follow));
        let found = login::find(&registry).await?;
        let login = match &found.file {
            Some(file) => format!("with the login in {}", file.display()),
            None => "without a login".to_owned(),
        };
        let mut client = Self {
            http: builder.build().map_err(|e| transfer_error(&registry, e))?,
            base: base.map_err(|e| malformed(e.to_string()))?,
            reference: parsed,
            authorization: None,
            login,
        };
        client.authorization = client.authorize(&found.auth, plain_http, right).await?;
        Ok(client)
    }

    /// The header to send with each request: a token from the registry, user and password, or nothing.
    async fn authorize(
        &self,
        auth: &RegistryAuth,
        plain_http: bool,
        right: Right,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let oci = oci_client::Client::new(ClientConfig {
            protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(Duration::from_secs(30)),
            ..Default::default()
        });
        let operation = if right == Right::Write { RegistryOperation::Push } else { RegistryOperation::Pull };
        let reply = tokio::time::timeout(SHORT, oci.auth(&self.reference, auth, operation)).await;
        let transfer = |reason| RegistryError::Transfer { url: display(&self.base), reason };
        let token =
            reply.map_err(|_| transfer(format!("the registry issued no token within {} s", SHORT.as_secs())))?;
        let text = match token {
            Ok(Some(token)) => format!("Bearer {token}"),
            Ok(None) => match auth {
                RegistryAuth::Basic(user, password) => basic(user, password),
                _ => return Ok(None),
            },
            Err(OciDistributionError::AuthenticationFailure(_)) => return Err(self.refused("issue a token for")),
            Err(OciDistributionError::ServerError { code: 429, .. }) => return Err(self.too_many_requests(None)),
            Err(OciDistributionError::RequestError(e)) => return Err(transfer_error(&display(&self.base), e)),
            Err(e) => return Err(transfer(e.to_string())),
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| self.refused("accept (it does not fit into a header) the password for"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The name of the repository: `host/repository`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.reference.registry(), self.reference.repository())
    }

    /// The digest or tag of the reference.
    pub(crate) fn tag_or_digest(&self) -> String {
        self.reference.digest().or(self.reference.tag()).unwrap_or("latest").to_owned()
    }

    /// Fetches a manifest or index by tag or digest; a digest is verified. `None` if there is none.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Option<RawManifest>, RegistryError> {
        let url = self.url(&format!("manifests/{name}"))?;
        let request = self.request(Method::GET, &url, SHORT).header(ACCEPT, MANIFESTS);
        let response = self.send(request, &url, "read").await?;
        let Some(response) = self.expect(response, &[StatusCode::OK]).await? else {
            return Ok(None);
        };
        let media_type = content_type(response.headers());
        let bytes = read(response, MAX_MANIFEST).await?;
        let digest = Digest::sha256(&bytes);
        if name.contains(':') && name != digest.to_string() {
            return Err(wrong_digest(&url, name, &digest));
        }
        Ok(Some(RawManifest { media_type, bytes }))
    }

    /// Digest and media type of a manifest or index, by tag or digest, without its content; `None` if there is none. Registries do not
    /// count this as a pull. The digest is not verified: what it leads to must be.
    pub(crate) async fn manifest_head(&self, name: &str) -> Result<Option<(Digest, String)>, RegistryError> {
        let url = self.url(&format!("manifests/{name}"))?;
        let request = self.request(Method::HEAD, &url, SHORT).header(ACCEPT, MANIFESTS);
        let response = self.send(request, &url, "read").await?;
        let Some(response) = self.expect(response, &[StatusCode::OK]).await? else {
            return Ok(None);
        };
        let digest = response.headers().get("docker-content-digest").and_then(|digest| digest.to_str().ok());
        let digest = digest.and_then(|digest| digest.parse().ok());
        let digest = digest.ok_or_else(|| self.malformed(format!("the registry names no digest of {name}")))?;
        Ok(Some((digest, content_type(response.headers()))))
    }

    /// Fetches a blob of at most `limit` bytes and verifies it against `descriptor`.
    pub(crate) async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&format!("blobs/{}", descriptor.digest))?;
        if descriptor.size > limit {
            return Err(RegistryError::TooLong { url: display(&url), limit });
        }
        let response = self.send(self.request(Method::GET, &url, LONG), &url, "read").await?;
        let absent =
            || self.malformed(format!("the registry has no blob {}, to which a manifest refers", descriptor.digest));
        let response = self.expect(response, &[StatusCode::OK]).await?.ok_or_else(absent)?;
        let bytes = read(response, descriptor.size).await?;
        match Digest::sha256(&bytes) {
            found if found.to_string() == descriptor.digest => Ok(bytes),
            found => Err(wrong_digest(&url, &descriptor.digest, &found)),
        }
    }

    /// Fetches the indexes of manifests whose subject is `subject` from the registry's referrers API, page by
    /// page; `None` if it has no such API. Registries may ignore the filter for `kind`.
    pub(crate) async fn referrers(&self, subject: &Digest, kind: &str) -> Result<Option<Vec<Vec<u8>>>, RegistryError> {
        /// Most pages that are fetched.
        const MAX_PAGES: usize = 16;
        let mut url = self.url(&format!("referrers/{subject}"))?;
        url.query_pairs_mut().append_pair("artifactType", kind);
        let mut pages = Vec::new();
        loop {
            let request = self.request(Method::GET, &url, SHORT).header(ACCEPT, INDEX_TYPE);
            let response = self.send(request, &url, "read").await?;
            let Some(response) = self.expect(response, &[StatusCode::OK]).await? else {
                return Ok(None);
            };
            if content_type(response.headers()) != INDEX_TYPE {
                return Ok(None);
            }
            let link = response.headers().get(LINK).and_then(|link| link.to_str().ok());
            let next = link.and_then(|link| next_page(link, &url));
            pages.push(read(response, MAX_MANIFEST).await?);
            match next {
                Some(next) if pages.len() < MAX_PAGES => url = next,
                _ => return Ok(Some(pages)),
            }
        }
    }

    /// Uploads a blob, unless the registry has it.
    pub(crate) async fn put_blob(&self, digest: &Digest, size: u64, content: Content<'_>) -> Result<(), RegistryError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let existing = self.send(self.request(Method::HEAD, &url, SHORT), &url, "read").await?;
        if existing.status() == StatusCode::OK {
            return Ok(());
        }
        let uploads = self.url("blobs/uploads/")?;
        let begin = self.request(Method::POST, &uploads, SHORT).header(CONTENT_LENGTH, 0);
        let begun = self.send(begin, &uploads, "write").await?;
        let begun = self.existing(self.expect(begun, &[StatusCode::ACCEPTED]).await?, &uploads)?;
        let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.and_then(|location| begun.url().join(location).ok());
        let mut location =
            location.ok_or_else(|| self.malformed("its response names no location for the upload".to_owned()))?;
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let body = content.body().await.map_err(|e| self.malformed(format!("{digest}: {e}")))?;
        let put = self.request(Method::PUT, &location, LONG);
        let put = put.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, size).body(body);
        let done = self.send(put, &location, "write").await?;
        self.existing(self.expect(done, &[StatusCode::CREATED]).await?, &location).map(drop)
    }

    /// Uploads a manifest or index under a tag or its digest and returns the response's headers.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        kind: &str,
        bytes: Vec<u8>,
    ) -> Result<HeaderMap, RegistryError> {
        let url = self.url(&format!("manifests/{name}"))?;
        let put = self.request(Method::PUT, &url, SHORT).header(CONTENT_TYPE, kind).body(bytes);
        let done = self.send(put, &url, "write").await?;
        let done = self.existing(self.expect(done, &[StatusCode::CREATED, StatusCode::OK]).await?, &url)?;
        Ok(done.headers().clone())
    }

    /// Deletes a manifest, if the registry allows it.
    pub(crate) async fn delete_manifest(&self, digest: &str) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{digest}"))?;
        let done = self.send(self.request(Method::DELETE, &url, SHORT), &url, "delete").await?;
        self.expect(done, &[StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT]).await.map(drop)
    }

    /// An error about the content of this repository.
    pub(crate) fn malformed(&self, reason: String) -> RegistryError {
        RegistryError::Malformed { reference: self.name(), reason }
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.base.join(&format!("./{path}")).map_err(|e| self.malformed(format!("{path}: {e}")))
    }

    /// A request, with our login only if it goes to this registry: uploads may be sent elsewhere.
    fn request(&self, method: Method, url: &Url, limit: Duration) -> RequestBuilder {
        let request = self.http.request(method, url.clone()).timeout(limit);
        match &self.authorization {
            Some(value) if url.origin() == self.base.origin() => request.header(AUTHORIZATION, value.clone()),
            _ => request,
        }
    }

    async fn send(&self, request: RequestBuilder, url: &Url, what: &str) -> Result<Response, RegistryError> {
        let response = request.send().await.map_err(|e| transfer_error(&display(url), e))?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused(what)),
            StatusCode::TOO_MANY_REQUESTS => Err(self.too_many_requests(response.headers().get(RETRY_AFTER))),
            _ => Ok(response),
        }
    }

    fn too_many_requests(&self, retry_after: Option<&HeaderValue>) -> RegistryError {
        RegistryError::TooManyRequests { registry: self.reference.registry().to_owned(), wait: wait(retry_after) }
    }

    fn refused(&self, what: &str) -> RegistryError {
        let reason = format!(
            "cannot {what} {} {}; log in with `docker login` or `podman login` as a user who may",
            self.reference.repository(),
            self.login
        );
        RegistryError::Refused { registry: self.reference.registry().to_owned(), reason }
    }

    /// The response, if it has one of these statuses; `None` for status 404.
    async fn expect(&self, response: Response, statuses: &[StatusCode]) -> Result<Option<Response>, RegistryError> {
        match response.status() {
            status if statuses.contains(&status) => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                let url = display(response.url());
                Err(RegistryError::Status { url, status: status.as_u16(), message: error_message(response).await })
            }
        }
    }

    fn existing(&self, response: Option<Response>, url: &Url) -> Result<Response, RegistryError> {
        let message = "not found, or uploads are not accepted".to_owned();
        response.ok_or_else(|| RegistryError::Status { url: display(url), status: 404, message })
    }
}

/// Content to upload.
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

impl Content<'_> {
    async fn body(&self) -> std::io::Result<Body> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.to_vec().into()),
            Self::File(path) => Ok(tokio::fs::File::open(path).await?.into()),
        }
    }
}

/// Whether to follow a redirect. The HTTP client itself drops our login when the host changes.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let secure = |url: &Url| url.scheme() == "https";
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    if attempt.previous().first().is_some_and(secure) && !secure(attempt.url()) {
        return attempt.error("redirect from HTTPS to plain HTTP");
    }
    attempt.follow()
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(MANIFEST_TYPE);
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// How long a registry is to be left alone after a response 429.
fn wait(retry_after: Option<&HeaderValue>) -> Duration {
    let seconds = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    seconds.map_or(DEFAULT_WAIT, |seconds| Duration::from_secs(seconds).min(MAX_WAIT))
}

fn wrong_digest(url: &Url, expected: &str, found: &Digest) -> RegistryError {
    RegistryError::Digest { url: display(url), expected: expected.to_owned(), found: found.to_string() }
}

/// The target of a header `Link: <...>; rel="next"`, on the same host.
pub fn next_page(link: &str, url: &Url) -> Option<Url> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = url.join(target).ok()?;
    (rest.contains("next") && next.origin() == url.origin()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_left_alone_for_as_long_as_it_says() {
        let waits = |text: &'static str| wait(Some(&HeaderValue::from_static(text)));
        assert_eq!((waits("60"), waits(" 7 ")), (Duration::from_secs(60), Duration::from_secs(7)));
        assert_eq!((waits("99999999999"), waits("18446744073709551615")), (MAX_WAIT, MAX_WAIT));
        for text in ["", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(waits(text), DEFAULT_WAIT, "{text}");
        }
        assert_eq!(wait(None), DEFAULT_WAIT);
    }
}
