//! One repository of a registry, over HTTP: OCI distribution specification 1.1.
//!
//! The crate `oci-client` parses references and gets tokens; its transfers are not used, because they take bodies of any
//! length and do not tell the header `OCI-Subject`.

use std::path::Path;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LINK, LOCATION};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};

use super::artifact::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, MAX_MANIFEST};
use super::body::{failed, read, said, shown};
use super::{RegistryError, login};
use crate::image::Digest;

/// All manifests that may stand for an image.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
/// How long an answer of a few bytes may take.
const SHORT: Duration = Duration::from_secs(60);
/// How long the transfer of a blob may take.
const LONG: Duration = Duration::from_secs(30 * 60);
/// The most redirects that are followed: registries send readers to the store of their blobs.
const MAX_REDIRECTS: usize = 5;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Pull.
    Read,
    /// Pull and push.
    Write,
}

/// A repository of a registry.
pub(crate) struct Client {
    http: reqwest::Client,
    reference: Reference,
    base: Url,
    authorization: Option<HeaderValue>,
    login: String,
}

/// A manifest or an index as the registry gives it.
pub(crate) struct Raw {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Client {
    /// Gets ready to read or write the repository of `reference`, with the login that this user has for its registry.
    pub(crate) async fn open(reference: &str, plain_http: bool, right: Right) -> Result<Self, RegistryError> {
        let malformed = |why: String| RegistryError::Reference { reference: reference.to_owned(), why };
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
            Some(file) => format!("the login in {}", file.display()),
            None => "being asked without a login".to_owned(),
        };
        let mut client = Self {
            http: builder.build().map_err(|e| failed(&registry, e))?,
            base: base.map_err(|e| malformed(e.to_string()))?,
            reference: parsed,
            authorization: None,
            login,
        };
        client.authorization = client.authorize(&found.auth, plain_http, right).await?;
        Ok(client)
    }

    /// What to send with each request: a token of the registry's own, or user and password, or nothing.
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
        let asked = tokio::time::timeout(SHORT, oci.auth(&self.reference, auth, operation)).await;
        let transfer = |why| RegistryError::Transfer { url: shown(&self.base), why };
        let token = asked.map_err(|_| transfer(format!("no token within {} s", SHORT.as_secs())))?;
        let text = match token {
            Ok(Some(token)) => format!("Bearer {token}"),
            Ok(None) => match auth {
                RegistryAuth::Basic(user, password) => basic(user, password),
                _ => return Ok(None),
            },
            Err(OciDistributionError::AuthenticationFailure(_)) => return Err(self.refused("give a token")),
            Err(OciDistributionError::RequestError(e)) => return Err(failed(&shown(&self.base), e)),
            Err(e) => return Err(transfer(e.to_string())),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| self.refused("take it: it is no text of a header"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Who and where: `host/repository`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.reference.registry(), self.reference.repository())
    }

    /// The digest or tag of the reference.
    pub(crate) fn wanted(&self) -> String {
        let of = self.reference.digest().or(self.reference.tag());
        of.unwrap_or("latest").to_owned()
    }

    /// A manifest or an index by tag or digest; its bytes have that digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Option<Raw>, RegistryError> {
        let url = self.url(&format!("manifests/{name}"))?;
        let request = self.request(Method::GET, &url, SHORT).header(ACCEPT, MANIFESTS);
        let answer = self.send(request, &url, "read").await?;
        let Some(answer) = self.expect(answer, &[StatusCode::OK]).await? else {
            return Ok(None);
        };
        let media_type = content_type(answer.headers());
        let bytes = read(answer, MAX_MANIFEST).await?;
        let digest = Digest::of(&bytes);
        if name.contains(':') && name != digest.to_string() {
            return Err(wrong_digest(&url, name, &digest));
        }
        Ok(Some(Raw { media_type, digest, bytes }))
    }

    /// A blob, which must be what `descriptor` says and have at most `limit` bytes.
    pub(crate) async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&format!("blobs/{}", descriptor.digest))?;
        if descriptor.size > limit {
            return Err(RegistryError::TooLong { url: shown(&url), limit });
        }
        let answer = self.send(self.request(Method::GET, &url, LONG), &url, "read").await?;
        let absent =
            || self.malformed(format!("the registry has no blob {}, which a manifest names", descriptor.digest));
        let answer = self.expect(answer, &[StatusCode::OK]).await?.ok_or_else(absent)?;
        let bytes = read(answer, descriptor.size).await?;
        match Digest::of(&bytes) {
            found if found.to_string() == descriptor.digest => Ok(bytes),
            found => Err(wrong_digest(&url, &descriptor.digest, &found)),
        }
    }

    /// The indexes of manifests whose subject is `subject`, as the registry's referrers API gives them, page by page;
    /// none if it has no such API. Artifacts of other types may be among them.
    pub(crate) async fn referrers(&self, subject: &Digest, kind: &str) -> Result<Option<Vec<Vec<u8>>>, RegistryError> {
        /// More pages than this are not asked for.
        const MAX_PAGES: usize = 16;
        let mut url = self.url(&format!("referrers/{subject}"))?;
        url.query_pairs_mut().append_pair("artifactType", kind);
        let mut pages = Vec::new();
        loop {
            let request = self.request(Method::GET, &url, SHORT).header(ACCEPT, INDEX_TYPE);
            let answer = self.send(request, &url, "read").await?;
            let Some(answer) = self.expect(answer, &[StatusCode::OK]).await? else {
                return Ok(None);
            };
            if content_type(answer.headers()) != INDEX_TYPE {
                return Ok(None);
            }
            let link = answer.headers().get(LINK).and_then(|link| link.to_str().ok());
            let next = link.and_then(|link| next_page(link, &url));
            pages.push(read(answer, MAX_MANIFEST).await?);
            match next {
                Some(next) if pages.len() < MAX_PAGES => url = next,
                _ => return Ok(Some(pages)),
            }
        }
    }

    /// Uploads a blob that the registry does not have.
    pub(crate) async fn put_blob(&self, digest: &Digest, size: u64, content: Content<'_>) -> Result<(), RegistryError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let there = self.send(self.request(Method::HEAD, &url, SHORT), &url, "read").await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let uploads = self.url("blobs/uploads/")?;
        let begin = self.request(Method::POST, &uploads, SHORT).header(CONTENT_LENGTH, 0);
        let begun = self.send(begin, &uploads, "write").await?;
        let begun = self.existing(self.expect(begun, &[StatusCode::ACCEPTED]).await?, &uploads)?;
        let place = begun.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.and_then(|place| begun.url().join(place).ok());
        let mut place = place.ok_or_else(|| self.malformed("it names no place for an upload".to_owned()))?;
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let body = content.body().await.map_err(|e| self.malformed(format!("{digest}: {e}")))?;
        let put = self.request(Method::PUT, &place, LONG);
        let put = put.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, size).body(body);
        let done = self.send(put, &place, "write").await?;
        self.existing(self.expect(done, &[StatusCode::CREATED]).await?, &place).map(drop)
    }

    /// Uploads a manifest or an index under a tag or its digest; the headers of the answer.
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

    /// Deletes a manifest, if the registry allows that.
    pub(crate) async fn delete_manifest(&self, digest: &str) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{digest}"))?;
        let done = self.send(self.request(Method::DELETE, &url, SHORT), &url, "delete").await?;
        self.expect(done, &[StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT]).await.map(drop)
    }

    /// An error about what this repository holds.
    pub(crate) fn malformed(&self, why: String) -> RegistryError {
        RegistryError::Malformed { reference: self.name(), why }
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.base.join(&format!("./{path}")).map_err(|e| self.malformed(format!("{path}: {e}")))
    }

    /// A request, with our login if it goes to this very registry: an upload may be sent elsewhere.
    fn request(&self, method: Method, url: &Url, limit: Duration) -> RequestBuilder {
        let request = self.http.request(method, url.clone()).timeout(limit);
        match &self.authorization {
            Some(value) if url.origin() == self.base.origin() => request.header(AUTHORIZATION, value.clone()),
            _ => request,
        }
    }

    async fn send(&self, request: RequestBuilder, url: &Url, what: &str) -> Result<Response, RegistryError> {
        let answer = request.send().await.map_err(|e| failed(&shown(url), e))?;
        match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused(what)),
            _ => Ok(answer),
        }
    }

    fn refused(&self, what: &str) -> RegistryError {
        let why = format!(
            "it does not {what} {} with {}; use `docker login` or `podman login` as a user who may",
            self.reference.repository(),
            self.login
        );
        RegistryError::Refused { registry: self.reference.registry().to_owned(), why }
    }

    /// The answer if it has one of these statuses; none if there is no such thing.
    async fn expect(&self, answer: Response, statuses: &[StatusCode]) -> Result<Option<Response>, RegistryError> {
        match answer.status() {
            status if statuses.contains(&status) => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                let url = shown(answer.url());
                Err(RegistryError::Status { url, status: status.as_u16(), said: said(answer).await })
            }
        }
    }

    fn existing(&self, answer: Option<Response>, url: &Url) -> Result<Response, RegistryError> {
        let said = "there is no such place, or it takes no uploads".to_owned();
        answer.ok_or_else(|| RegistryError::Status { url: shown(url), status: 404, said })
    }
}

/// What is uploaded.
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

/// Whether a redirect is followed. The HTTP client drops our login at another host by itself.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let secure = |url: &Url| url.scheme() == "https";
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("it redirects again and again");
    }
    if attempt.previous().first().is_some_and(secure) && !secure(attempt.url()) {
        return attempt.error("it redirects from HTTPS to a place without");
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

fn wrong_digest(url: &Url, expected: &str, found: &Digest) -> RegistryError {
    RegistryError::Digest { url: shown(url), expected: expected.to_owned(), found: found.to_string() }
}

/// The target of a header `Link: <...>; rel="next"`, on the same host.
pub fn next_page(link: &str, url: &Url) -> Option<Url> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = url.join(target).ok()?;
    (rest.contains("next") && next.origin() == url.origin()).then_some(next)
}
