//! An HTTP server with a repository's objects, that can be told to misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Object, REPOSITORY};

/// What the server does when an object is asked for.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Sends these bytes, or the range of them that is asked for.
    Send(Vec<u8>),
    /// Sends all of these bytes, whatever range is asked for.
    Whole(Vec<u8>),
    /// Announces all of these bytes, sends so many, and closes.
    Cut(Vec<u8>, usize),
    /// Answers with this status and these bytes.
    Status(u16, &'static str),
    /// Sends the first half at once and the rest when the gate opens.
    Hold(Vec<u8>),
}

/// The server. Ends with the test's runtime.
pub struct Origin {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    behaviours: Mutex<HashMap<String, Behaviour>>,
    log: Mutex<Vec<String>>,
    gate: watch::Sender<bool>,
}

type Body = BoxBody<Bytes, io::Error>;

impl Origin {
    /// Serves `objects` on a free port of the loopback.
    pub async fn start<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        for object in objects {
            origin.set(object, Behaviour::Send(object.stored.clone()));
        }
        let state = origin.state.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let state = state.clone();
                let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(connection), service));
            }
        });
        origin
    }

    /// A port on which nobody listens.
    pub async fn dead() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { port: listener.local_addr().unwrap().port(), state: Arc::default() }
    }

    /// The server as a proxy: it answers for any host.
    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// For the configuration.
    pub fn server(&self) -> String {
        format!("http://127.0.0.1:{}/cvmfs/@fqrn@", self.port)
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
        self.state.log.lock().unwrap().iter().filter(|p| p.ends_with(&path)).count()
    }

    /// The paths asked for, in order.
    pub fn log(&self) -> Vec<String> {
        self.state.log.lock().unwrap().clone()
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    state.log.lock().unwrap().push(path.clone());
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
