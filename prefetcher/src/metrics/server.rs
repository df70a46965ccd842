//! Serves the metrics over HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Most connections at a time; more wait.
const CONNECTIONS: usize = 16;
/// One connection brings one answer, and takes so long at most.
const DEADLINE: Duration = Duration::from_secs(10);
/// After a connection that could not be had, which is for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `GET /metrics` with `text` for as long as it is polled.
pub async fn serve<T>(listener: TcpListener, text: impl Fn() -> T + Clone + Send + 'static)
where
    T: Future<Output = String> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = connections.clone().acquire_owned().await {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                warn!(%error, "no connection for metrics");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let text = text.clone();
        let service = hyper::service::service_fn(move |request| answer(text.clone(), request));
        tokio::spawn(async move {
            let _permit = permit;
            let mut http = http1::Builder::new();
            let http = http.timer(TokioTimer::new()).header_read_timeout(DEADLINE).keep_alive(false);
            let served = http.serve_connection(TokioIo::new(connection), service);
            match tokio::time::timeout(DEADLINE, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "metrics not served"),
                Err(_) => debug!("metrics not taken in time"),
            }
        });
    }
}

async fn answer<T: Future<Output = String>>(
    text: impl Fn() -> T,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_known = request.uri().path() == "/metrics";
    let (status, format, body) = match (is_known, request.method() == Method::GET) {
        (true, true) => (StatusCode::OK, FORMAT, text().await),
        (true, false) => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is answered\n".into()),
        (false, _) => (StatusCode::NOT_FOUND, "text/plain", "the metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(format));
    Ok(response)
}
