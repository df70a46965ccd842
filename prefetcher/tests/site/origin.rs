//! An HTTP server with a repository's objects, that can be told to misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::{Object, REPOSITORY};

/// What the server does when an object is requested.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Sends these bytes, or the range of them that is requested.
    Send(Vec<u8>),
    /// Sends all of these bytes, whatever range is requested.
    Whole(Vec<u8>),
    /// Announces all of these bytes, sends so many, and closes.
    Cut(Vec<u8>, usize),
    /// Answers with this status and these bytes.
    Status(u16, &'static str),
    /// Sends the first bytes, unless what a cache keeps is not wanted: then the second.
    Stale(Vec<u8>, Vec<u8>),
    /// Sends a byte a second.
    Trickle(Vec<u8>),
    /// Sends the first half at once and the rest when the gate opens.
    Hold(Vec<u8>),
}

/// The server. Ends with the test's runtime.
pub struct Origin {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    behaviours: Mutex<HashMap<String, Behaviour>>,
    log: Mutex<Vec<(Instant, String)>>,
    versions: Mutex<Vec<Version>>,
    gate: watch::Sender<bool>,
}

type Body = BoxBody<Bytes, io::Error>;

impl Origin {
    /// Serves `objects` on a free port of the loopback.
    pub async fn start<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        Self::start_at("127.0.0.1:0", objects).await
    }

    /// The same at another address.
    pub async fn start_at<'a>(address: &str, objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let (origin, listener) = Self::bind(address, "http", objects).await;
        let state = origin.state.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let state = state.clone();
                let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
            }
        });
        origin
    }

    /// The same with TLS, and HTTP/2 if client and server agree on that.
    pub async fn start_with_tls<'a>(tls: ServerConfig, objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let (origin, listener) = Self::bind("127.0.0.1:0", "https", objects).await;
        let (state, acceptor) = (origin.state.clone(), TlsAcceptor::from(Arc::new(tls)));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (state, acceptor) = (state.clone(), acceptor.clone());
                tokio::spawn(async move {
                    // A client that does not trust us hangs up.
                    let Ok(connection) = acceptor.accept(connection).await else { return };
                    let is_http2 = connection.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
                    let connection = TokioIo::new(connection);
                    let _ = match is_http2 {
                        true => http2::Builder::new(TokioExecutor::new()).serve_connection(connection, service).await,
                        false => http1::Builder::new().serve_connection(connection, service).await,
                    };
                });
            }
        });
        origin
    }

    async fn bind<'a>(
        address: &str,
        scheme: &'static str,
        objects: impl IntoIterator<Item = &'a Object>,
    ) -> (Self, TcpListener) {
        let listener = TcpListener::bind(address).await.unwrap();
        let origin = Self { address: listener.local_addr().unwrap(), scheme, state: Arc::default() };
        for object in objects {
            origin.set(object, Behaviour::Send(object.stored.clone()));
        }
        (origin, listener)
    }

    /// A port on which nobody listens.
    pub async fn dead() -> Self {
        Self::bind("127.0.0.1:0", "http", []).await.0
    }

    /// The server as a proxy: it answers for any host.
    pub fn proxy(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For the configuration.
    pub fn server(&self) -> String {
        match self.scheme {
            // A certificate is for a name.
            "https" => format!("https://localhost:{}/cvmfs/@fqrn@", self.address.port()),
            _ => format!("http://{}/cvmfs/@fqrn@", self.address),
        }
    }

    /// What is done for `object`.
    pub fn set(&self, object: &Object, behaviour: Behaviour) {
        let path = format!("/cvmfs/{REPOSITORY}/{}", object.url_path());
        self.state.behaviours.lock().unwrap().insert(path, behaviour);
    }

    /// Lets all that is held go on.
    pub fn open_gate(&self) {
        self.state.gate.send_replace(true);
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.state.log.lock().unwrap().len()
    }

    /// How often `object` was asked for.
    pub fn requests_for(&self, object: &Object) -> usize {
        let path = object.url_path();
        self.state.log.lock().unwrap().iter().filter(|(_, p)| p.ends_with(&path)).count()
    }

    /// The paths asked for, in order.
    pub fn log(&self) -> Vec<String> {
        self.state.log.lock().unwrap().iter().map(|(_, path)| path.clone()).collect()
    }

    /// By which versions of HTTP they were asked for.
    pub fn versions(&self) -> Vec<Version> {
        self.state.versions.lock().unwrap().clone()
    }

    /// When they were asked for.
    pub fn times(&self) -> Vec<Instant> {
        self.state.log.lock().unwrap().iter().map(|(time, _)| *time).collect()
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    state.log.lock().unwrap().push((Instant::now(), path.clone()));
    state.versions.lock().unwrap().push(request.version());
    let behaviour = state.behaviours.lock().unwrap().get(&path).cloned();
    let range = request.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
    let response = Response::builder();
    let response = match behaviour.unwrap_or(Behaviour::Status(404, "no such object")) {
        Behaviour::Send(bytes) => match range {
            Some(range) => {
                let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let said = format!("bytes {first}-{last}/{}", bytes.len());
                response.status(206).header("content-range", said).body(whole(bytes[first..=last].to_vec()))
            }
            None => response.body(whole(bytes)),
        },
        Behaviour::Whole(bytes) => response.body(whole(bytes)),
        Behaviour::Stale(kept, fresh) => {
            let is_fresh = request.headers().get("cache-control").is_some_and(|how| how == "no-cache");
            response.body(whole(if is_fresh { fresh } else { kept }))
        }
        Behaviour::Trickle(bytes) => {
            let length = bytes.len();
            let frames = stream::unfold(bytes.into_iter(), async |mut rest| {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                let frame = Frame::data(Bytes::from(vec![rest.next()?]));
                Some((Ok(frame), rest))
            });
            response.header("content-length", length).body(BodyExt::boxed(StreamBody::new(Box::pin(frames))))
        }
        Behaviour::Cut(bytes, at) => {
            let end = Err(io::Error::other("closed by the test"));
            let frames = [Ok(Frame::data(Bytes::copy_from_slice(&bytes[..at]))), end];
            response.header("content-length", bytes.len()).body(BodyExt::boxed(StreamBody::new(stream::iter(frames))))
        }
        Behaviour::Status(code, text) => response
            .status(StatusCode::from_u16(code).unwrap())
            .header("location", "/elsewhere")
            .body(whole(text.as_bytes().to_vec())),
        Behaviour::Hold(bytes) => {
            let mut gate = state.gate.subscribe();
            let length = bytes.len();
            let (first, rest) = bytes.split_at(length / 2);
            let (first, rest) = (Bytes::copy_from_slice(first), Bytes::copy_from_slice(rest));
            let held = stream::once(async move {
                gate.wait_for(|open| *open).await.map_err(io::Error::other)?;
                Ok(Frame::data(rest))
            });
            let frames = futures::StreamExt::chain(stream::iter([Ok(Frame::data(first))]), held);
            response.header("content-length", length).body(BodyExt::boxed(StreamBody::new(Box::pin(frames))))
        }
    };
    Ok(response.unwrap())
}

fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}
