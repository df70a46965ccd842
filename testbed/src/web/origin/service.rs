//! Responds to requests.

use std::convert::Infallible;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, USER_AGENT,
};
use hyper::{Method, Response, StatusCode};

use super::Shared;
use super::body::{Body, Content};
use super::fault::Fault;
use super::log::Request;
use super::range::{self, Part};

/// `max-age` in seconds, as real servers send it: objects never change, other files do.
const OBJECT_LIFETIME: &str = "max-age=259200";
const ROOT_FILE_LIFETIME: &str = "max-age=61";

/// Responds to one request of `client`.
pub(super) async fn respond(
    shared: &Shared,
    client: &str,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = shared.log.now();
    let path = request.uri().path().to_owned();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let range = header(RANGE).map(str::to_owned);
    let client = shared.client(client, header(USER_AGENT).unwrap_or_default());
    let record = |status: StatusCode| {
        shared.log.add(Request {
            method: request.method().to_string(),
            path: path.clone(),
            range: range.clone(),
            status: status.as_u16(),
            bytes: 0,
            started,
            client: client.to_string(),
        })
    };
    let refuse = |status: StatusCode| {
        record(status);
        Response::builder().status(status).header(CONTENT_LENGTH, 0)
    };

    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(finish(refuse(StatusCode::METHOD_NOT_ALLOWED).header(ALLOW, "GET, HEAD"), empty()));
    }
    let fault = shared.faults.apply(&path).await;
    if let Some(Fault::Status(status)) = fault {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Ok(finish(refuse(status), empty()));
    }
    let Some((file, size)) = locate(&shared.web_root, &path).and_then(|path| open(&path)) else {
        return Ok(finish(refuse(StatusCode::NOT_FOUND), empty()));
    };
    let (status, first, length) = match range.as_deref().map_or(Part::Whole, |range| range::parse(range, size)) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Range { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Part::Unsatisfiable => {
            let response = refuse(StatusCode::RANGE_NOT_SATISFIABLE).header(CONTENT_RANGE, format!("bytes */{size}"));
            return Ok(finish(response, empty()));
        }
    };
    let lifetime = if path.contains("/data/") { OBJECT_LIFETIME } else { ROOT_FILE_LIFETIME };
    let mut response = Response::builder()
        .status(status)
        .header(CONTENT_LENGTH, length)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(CACHE_CONTROL, lifetime);
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(CONTENT_RANGE, format!("bytes {first}-{}/{size}", first + length - 1));
    }
    let sent = record(status);
    if request.method() == Method::HEAD {
        return Ok(finish(response, empty()));
    }
    let break_after = if let Some(Fault::Truncate(bytes)) = fault { Some(bytes) } else { None };
    let content = Content { file, first, length, break_after, corrupt: fault == Some(Fault::Garbage), sent };
    Ok(finish(response, content.body()))
}

fn finish(response: hyper::http::response::Builder, body: Body) -> Response<Body> {
    response.body(body).expect("headers made of numbers and constants are valid")
}

fn empty() -> Body {
    Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync()
}

/// The file for a URL's path; `None` for a path that could leave the root or is percent-encoded (no repository file needs that).
fn locate(web_root: &Path, path: &str) -> Option<PathBuf> {
    let relative = path.strip_prefix('/')?;
    let plain = relative.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (plain && !relative.contains(['%', '\0'])).then(|| web_root.join(relative))
}

fn open(path: &Path) -> Option<(File, u64)> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_root() {
        let root = Path::new("/srv");
        assert_eq!(locate(root, "/cvmfs/a.b/data/00/ffC"), Some("/srv/cvmfs/a.b/data/00/ffC".into()));
        for bad in ["", "/", "//etc/passwd", "/../etc/passwd", "/a/../../b", "/a/./b", "/a//b", "/%2e%2e/b", "a"] {
            assert_eq!(locate(root, bad), None, "{bad:?}");
        }
    }
}
