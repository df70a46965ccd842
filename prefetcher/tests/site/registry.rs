//! An image registry with one image, which counts its requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bundles::bundle::Bundle;
use bundles::image::{ChainId, Digest, ImageId};
use bundles::registry::artifact::{BUNDLE_TYPE, bundle_tag};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Default)]
struct State {
    /// By the last part of their path: tag or digest.
    content: HashMap<String, Bytes>,
    log: Vec<String>,
    /// Answered instead of everything, with this `Retry-After`.
    too_many_requests: Option<&'static str>,
}

/// The registry. Ends with the test's runtime.
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// The image, by its names in the registry.
    pub image: ImageId,
}

impl Registry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request| {
                    let response = answer(&mut shared.lock().unwrap(), &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let layer = Digest::sha256(b"layer");
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [layer]}}).to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("application/x", config.as_bytes()),
            "layers": [descriptor("application/x", b"layer")],
        })
        .to_string();
        let digest = Digest::sha256(manifest.as_bytes());
        let image = ImageId {
            chain_id: ChainId::from_diff_ids(&[layer]).unwrap(),
            manifest: Some(digest),
            reference: format!("{address}/demo/image:1"),
        };
        let registry = Self { address, state, image };
        registry.put(&Digest::sha256(config.as_bytes()).to_string(), config.as_bytes());
        registry.put(&digest.to_string(), manifest.as_bytes());
        registry.put("1", manifest.as_bytes());
        registry
    }

    /// For the configuration.
    pub fn host(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts `bundle` beside the image, in place of an earlier one.
    pub fn attach(&self, bundle: &Bundle) {
        let file = bundle.to_bytes().unwrap();
        let layer = descriptor(BUNDLE_TYPE, &file);
        let subject = json!({"mediaType": MANIFEST, "digest": self.manifest(), "size": 1});
        let artifact = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE_TYPE, "layers": [layer],
            "config": descriptor("application/x", b"{}"), "subject": subject,
        })
        .to_string();
        self.put(&Digest::sha256(&file).to_string(), &file);
        self.put(&Digest::sha256(artifact.as_bytes()).to_string(), artifact.as_bytes());
        self.put(&bundle_tag(&self.manifest()), artifact.as_bytes());
    }

    /// Removes the bundle of the image.
    pub fn detach(&self) {
        self.state.lock().unwrap().content.remove(&bundle_tag(&self.manifest()));
    }

    pub fn answer_too_many_requests(&self, retry_after: &'static str) {
        self.state.lock().unwrap().too_many_requests = Some(retry_after);
    }

    /// The methods and last parts of paths that were requested since the last call, without those for tokens.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    fn manifest(&self) -> Digest {
        self.image.manifest.unwrap()
    }

    fn put(&self, name: &str, content: &[u8]) {
        self.state.lock().unwrap().content.insert(name.to_owned(), Bytes::copy_from_slice(content));
    }
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(content), "size": content.len()})
}

fn answer(state: &mut State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let response = Response::builder();
    if path == "/v2/" {
        return response.body(Full::default()).unwrap();
    }
    let name = path.rsplit('/').next().unwrap();
    state.log.push(format!("{} {name}", request.method()));
    if let Some(seconds) = state.too_many_requests {
        return response.status(429).header("retry-after", seconds).body(Full::default()).unwrap();
    }
    let Some(content) = state.content.get(name) else { return response.status(404).body(Full::default()).unwrap() };
    let digest = Digest::sha256(content).to_string();
    let response = response.header("content-type", MANIFEST).header("docker-content-digest", digest);
    let is_head = *request.method() == Method::HEAD;
    response.body(if is_head { Full::default() } else { Full::new(content.clone()) }).unwrap()
}
