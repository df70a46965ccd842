//! Serves a daemon's metrics over HTTP, and helps to encode them.
//!
//! A scrape gets one response per connection and a bounded time, so a scraper that hangs costs one connection of a few.

use std::convert::Infallible;
use std::fmt::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Maximum number of open connections; further ones wait.
const CONNECTIONS: usize = 16;
/// Timeout of a connection, which gets one response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, usually because file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);
/// Content type of the text format of OpenMetrics.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Responds to `GET /metrics` with `text` until the future is dropped.
pub async fn serve<T>(listener: TcpListener, text: impl Fn() -> T + Clone + Send + 'static)
where
    T: Future<Output = String> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = connections.clone().acquire_owned().await {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let text = text.clone();
        let service = hyper::service::service_fn(move |request| respond(text.clone(), request));
        tokio::spawn(async move {
            let _permit = permit;
            let mut http = http1::Builder::new();
            let http = http.timer(TokioTimer::new()).header_read_timeout(TIMEOUT).keep_alive(false);
            let served = http.serve_connection(TokioIo::new(connection), service);
            match tokio::time::timeout(TIMEOUT, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "metrics connection failed"),
                Err(_) => debug!("metrics connection timed out"),
            }
        });
    }
}

async fn respond<T: Future<Output = String>>(
    text: impl Fn() -> T,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_known = request.uri().path() == "/metrics";
    let (status, format, body) = match (is_known, request.method() == Method::GET) {
        (true, true) => (StatusCode::OK, FORMAT, text().await),
        (true, false) => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is supported\n".into()),
        (false, _) => (StatusCode::NOT_FOUND, "text/plain", "the metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(format));
    Ok(response)
}

/// Encodes a counter with a value for each value of one label.
pub fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(impl AsRef<str>, u64)],
) -> Result<(), Error> {
    let metric_type = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, metric_type)?;
    for (value, count) in values {
        let labels = [(label, value.as_ref())];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
