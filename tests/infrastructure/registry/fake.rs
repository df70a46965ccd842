//! A fake registry: one repository in memory, with the referrers API of the OCI distribution specification 1.1 and optionally
//! tokens. It can be made to send wrong data.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bundles::image::Digest;
use bundles::registry::artifact::bundle_tag;
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testbed::images::Image;
use testbed::registry::LOGIN;
use tokio::net::TcpListener;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Wrong responses.
#[derive(Debug, Clone)]
pub(super) enum WrongResponse {
    /// Other bytes of the same length.
    Other,
    /// A `Content-Length` of an exabyte.
    HugeLength,
    /// Endless bytes without a length.
    Endless,
    /// A redirect to this URL.
    Redirect(String),
}

#[derive(Default)]
struct State {
    address: String,
    /// Media type and content, by digest and by tag.
    manifests: BTreeMap<String, (String, Bytes)>,
    blobs: HashMap<String, Bytes>,
    /// Content of other paths.
    pages: HashMap<String, Bytes>,
    wrong: Option<(String, WrongResponse)>,
    tokens: bool,
    no_deletion: bool,
    /// Redirection of uploads.
    uploads: Option<String>,
    authorizations: Vec<Option<String>>,
}

/// The running server; ends with the test's runtime.
pub(super) struct FakeRegistry {
    address: String,
    state: Arc<Mutex<State>>,
    sent: Arc<AtomicU64>,
}

impl FakeRegistry {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { address: address.clone(), ..State::default() }));
        let sent = Arc::new(AtomicU64::new(0));
        let (shared, counter) = (Arc::clone(&state), Arc::clone(&sent));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, counter) = (Arc::clone(&shared), Arc::clone(&counter));
                let service = service_fn(move |request| respond(request, Arc::clone(&shared), Arc::clone(&counter)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state, sent }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Adds `image` (without its layers) under its tag; returns the reference.
    pub(super) fn add(&self, image: &Image) -> String {
        self.put_blob(&image.config);
        let content = (MANIFEST.to_owned(), Bytes::from(image.manifest.clone()));
        for name in [image.manifest_digest().to_string(), image.tag.clone()] {
            self.state().manifests.insert(name, content.clone());
        }
        image.reference(&self.address)
    }

    pub(super) fn put_blob(&self, content: &[u8]) -> String {
        let digest = Digest::sha256(content).to_string();
        self.state().blobs.insert(digest.clone(), Bytes::copy_from_slice(content));
        digest
    }

    pub(super) fn blob(&self, digest: &str) -> Vec<u8> {
        self.state().blobs[digest].to_vec()
    }

    pub(super) fn manifest(&self, digest: &str) -> Vec<u8> {
        self.state().manifests[digest].1.to_vec()
    }

    /// Adds an artifact as the bundle of `image`, regardless of its subject.
    pub(super) fn attach(&self, image: &Image, manifest: &Value) {
        let bytes = Bytes::from(serde_json::to_vec(manifest).unwrap());
        for name in [Digest::sha256(&bytes).to_string(), bundle_tag(&image.manifest_digest())] {
            self.state().manifests.insert(name, (MANIFEST.to_owned(), bytes.clone()));
        }
    }

    /// Sets the content of a path.
    pub(super) fn serve(&self, path: &str, content: &[u8]) {
        self.state().pages.insert(path.to_owned(), Bytes::copy_from_slice(content));
    }

    /// Sends wrong responses to GET requests for paths that contain `part`.
    pub(super) fn send_wrong(&self, part: &str, wrong: WrongResponse) {
        self.state().wrong = Some((part.to_owned(), wrong));
    }

    /// Requires tokens from now on: for pulling, given to everybody; for pushing, given to [`LOGIN`].
    pub(super) fn require_tokens(&self) {
        self.state().tokens = true;
    }

    /// Redirects uploads to another server, like registries with external blob storage.
    pub(super) fn upload_to(&self, other: &FakeRegistry) {
        self.state().uploads = Some(format!("http://{}", other.address));
    }

    pub(super) fn refuse_deletion(&self, refuse: bool) {
        self.state().no_deletion = refuse;
    }

    pub(super) fn tags(&self) -> Vec<String> {
        self.state().manifests.keys().filter(|name| !name.contains(':')).cloned().collect()
    }

    /// The `Authorization` headers of all requests so far.
    pub(super) fn authorizations(&self) -> Vec<Option<String>> {
        self.state().authorizations.clone()
    }

    /// Bytes of endless responses that clients have read.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).boxed_unsync()
}

fn status(status: StatusCode) -> Response<Body> {
    let body = json!({"errors": [{"code": "TESTBED", "message": format!("this is {status}")}]}).to_string();
    Response::builder().status(status).body(full(body)).unwrap()
}

async fn respond(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    sent: Arc<AtomicU64>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let state = &mut *state.lock().unwrap();
    let authorization = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    state.authorizations.push(authorization.clone());
    let url = reqwest::Url::parse(&format!("http://{}{}", state.address, head.uri)).unwrap();
    let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
    let path = url.path();
    if path == "/token" {
        return Ok(token(authorization.as_deref(), &query["scope"]));
    }
    let writes = head.method != Method::GET && head.method != Method::HEAD;
    let let_in = match authorization.as_deref() {
        Some("Bearer token-to-push") => true,
        Some("Bearer token-to-pull") => !writes,
        _ => !state.tokens,
    };
    if !let_in {
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"stand-in\"", state.address);
        let mut refused = status(StatusCode::UNAUTHORIZED);
        refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        return Ok(refused);
    }
    if let Some((_, wrong)) = state.wrong.as_ref().filter(|(part, _)| head.method == Method::GET && path.contains(part))
    {
        let kind = if path.contains("/referrers/") { INDEX } else { MANIFEST };
        return Ok(wrong_response(wrong, kind, sent));
    }
    Ok(correct_response(state, &head.method, path, &query, &head.headers, body))
}

fn token(authorization: Option<&str>, scope: &str) -> Response<Body> {
    use base64::Engine;
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", LOGIN.0, LOGIN.1));
    match authorization {
        Some(sent) if sent != format!("Basic {login}") => status(StatusCode::UNAUTHORIZED),
        Some(_) if scope.ends_with("push") => Response::new(full(r#"{"token":"token-to-push"}"#)),
        _ => Response::new(full(r#"{"token":"token-to-pull"}"#)),
    }
}

fn wrong_response(wrong: &WrongResponse, kind: &str, sent: Arc<AtomicU64>) -> Response<Body> {
    let response = Response::builder().header("content-type", kind);
    match wrong {
        WrongResponse::Other => response.body(full("{\"other\": 1}")),
        WrongResponse::HugeLength => response.header("content-length", 1u64 << 60).body(endless(sent)),
        WrongResponse::Endless => response.body(endless(sent)),
        WrongResponse::Redirect(url) => {
            response.status(StatusCode::TEMPORARY_REDIRECT).header("location", url).body(full(""))
        }
    }
    .unwrap()
}

fn endless(sent: Arc<AtomicU64>) -> Body {
    let parts = stream::repeat_with(move || {
        sent.fetch_add(1 << 16, Ordering::Relaxed);
        Ok(Frame::data(Bytes::from_static(&[b' '; 1 << 16])))
    });
    StreamBody::new(parts).boxed_unsync()
}

fn correct_response(
    state: &mut State,
    method: &Method,
    path: &str,
    query: &HashMap<String, String>,
    headers: &hyper::HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    if let Some((_, page)) = state.pages.iter().find(|(known, _)| path.ends_with(known.as_str())) {
        return Response::builder().header("content-type", INDEX).body(full(page.clone())).unwrap();
    }
    if path == "/v2/" {
        return Response::new(full("{}"));
    }
    if path.contains("/referrers/") {
        return referrers(state, &name, query.get("artifactType"));
    }
    let created = |header: &str, value: &str| {
        let response = Response::builder().status(StatusCode::CREATED).header("location", path);
        response.header(header, value).body(full("")).unwrap()
    };
    match (method.as_str(), path.contains("/blobs/uploads/"), path.contains("/blobs/")) {
        ("POST", true, _) => {
            let part = format!("{}{path}7?state=a%2Fb", state.uploads.as_deref().unwrap_or_default());
            Response::builder().status(StatusCode::ACCEPTED).header("location", part).body(full("")).unwrap()
        }
        ("PUT", true, _) if query["digest"] == Digest::sha256(&body).to_string() && query["state"] == "a/b" => {
            state.blobs.insert(query["digest"].clone(), body);
            created("docker-content-digest", &query["digest"])
        }
        ("GET" | "HEAD", false, true) => match state.blobs.get(&name) {
            Some(blob) if method == Method::GET => Response::new(full(blob.clone())),
            Some(_) => Response::new(full("")),
            None => status(StatusCode::NOT_FOUND),
        },
        ("GET" | "HEAD", false, false) => match state.manifests.get(&name) {
            Some((kind, content)) => {
                let response = Response::builder().header("content-type", kind);
                let response = response.header("docker-content-digest", Digest::sha256(content).to_string());
                response.body(full(if method == Method::HEAD { Bytes::new() } else { content.clone() })).unwrap()
            }
            None => status(StatusCode::NOT_FOUND),
        },
        ("PUT", false, false) => {
            let kind = headers["content-type"].to_str().unwrap().to_owned();
            let subject = serde_json::from_slice::<Value>(&body).unwrap()["subject"]["digest"].clone();
            state.manifests.insert(name, (kind, body));
            created("oci-subject", subject.as_str().unwrap_or_default())
        }
        ("DELETE", false, false) if !state.no_deletion => match state.manifests.remove(&name) {
            Some(_) => Response::builder().status(StatusCode::ACCEPTED).body(full("")).unwrap(),
            None => status(StatusCode::NOT_FOUND),
        },
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// The referrers API. It does not filter by type, which the specification permits, and returns pages with one entry.
fn referrers(state: &State, subject: &str, kind: Option<&String>) -> Response<Body> {
    let (subject, page) = subject.split_once('~').unwrap_or((subject, "0"));
    let of = |(digest, (media_type, content)): (&String, &(String, Bytes))| {
        let manifest: Value = serde_json::from_slice(content).unwrap();
        let is_tag = !digest.contains(':');
        (manifest["subject"]["digest"] == subject && !is_tag).then(|| {
            json!({
                "mediaType": media_type, "digest": digest, "size": content.len(),
                "artifactType": manifest["artifactType"], "annotations": manifest["annotations"],
            })
        })
    };
    assert!(kind.is_some(), "the request has no type");
    let signature = json!({
        "mediaType": MANIFEST, "digest": Digest::sha256(b"signature"), "size": 9, "artifactType": "application/x.signature",
    });
    let all: Vec<Value> = [signature].into_iter().chain(state.manifests.iter().filter_map(of)).collect();
    let page: usize = page.parse().unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all.get(page..=page)});
    let mut response = Response::builder().header("content-type", INDEX);
    if page + 1 < all.len() {
        response = response
            .header("link", format!("</v2/demo/small/referrers/{subject}~{}?artifactType=x>; rel=\"next\"", page + 1));
    }
    response.body(full(index.to_string())).unwrap()
}
