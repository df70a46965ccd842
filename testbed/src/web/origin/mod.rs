//! An HTTP server for a repository, like a Stratum 1: static files, keep-alive, `HEAD`, single ranges.
//!
//! Every request is logged with a label of its client. Clients are distinguished by the port they (or their link) connect to, so
//! each label has its own address: [`Origin::address_for`]. Behind a proxy all clients must use one address, because the proxy
//! caches per address; there [`Origin::label_user_agent`] distinguishes them. Faults can be added for chosen paths.

mod body;
mod fault;
mod log;
mod range;
mod service;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

pub use fault::Fault;
pub use log::{Request, Totals};

use fault::Faults;
use log::Log;

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Origin {
    shared: Arc<Shared>,
    ports: Mutex<HashMap<String, Port>>,
}

#[derive(Debug)]
struct Shared {
    web_root: PathBuf,
    log: Log,
    faults: Faults,
    agents: Mutex<Vec<(String, String)>>,
}

impl Shared {
    /// The label of a request that arrived at the address of `client`.
    fn client<'a>(&self, client: &'a str, agent: &str) -> Cow<'a, str> {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let known = agents.iter().find(|(prefix, _)| agent.starts_with(prefix));
        known.map_or(Cow::Borrowed(client), |(_, client)| Cow::Owned(client.clone()))
    }
}

#[derive(Debug)]
struct Port {
    address: SocketAddr,
    task: AbortHandle,
}

impl Origin {
    /// Serves the files below `web_root`: the path of a URL is the path below it.
    pub fn start(web_root: &Path) -> Result<Self> {
        let web_root = web_root.canonicalize().with_context(|| format!("no web root {}", web_root.display()))?;
        let shared = Shared { web_root, log: Log::default(), faults: Faults::default(), agents: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), ports: Mutex::default() })
    }

    /// The address whose requests are logged as those of `client`.
    pub fn address_for(&self, client: &str) -> Result<SocketAddr> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = ports.get(client) {
            return Ok(port.address);
        }
        let _context = super::RUNTIME.enter();
        let (listener, address) = super::listen()?;
        let task = tokio::spawn(serve(listener, client.to_owned(), Arc::clone(&self.shared))).abort_handle();
        ports.insert(client.to_owned(), Port { address, task });
        Ok(address)
    }

    /// From now on, requests whose `User-Agent` begins with `agent` are logged as those of `client`, at every address.
    pub fn label_user_agent(&self, agent: &str, client: &str) {
        let mut agents = self.shared.agents.lock().unwrap_or_else(PoisonError::into_inner);
        agents.push((agent.to_owned(), client.to_owned()));
    }

    /// Time since the origin's start, the clock of its log.
    pub fn now(&self) -> Duration {
        self.shared.log.now()
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.requests()
    }

    /// All requests so far; clears the log (and the counts of [`Origin::totals`]).
    pub fn take_requests(&self) -> Vec<Request> {
        self.shared.log.take()
    }

    /// Requests and bytes of `client`.
    pub fn totals(&self, client: &str) -> Totals {
        self.shared.log.totals(client)
    }

    /// From now on, requests for paths that `which` accepts fail with `fault`. The first matching fault counts.
    pub fn fail(&self, which: impl Fn(&str) -> bool + Send + Sync + 'static, fault: Fault) {
        self.shared.faults.add(Box::new(which), fault);
    }

    /// Removes all faults; stalled requests continue.
    pub fn heal(&self) {
        self.shared.faults.clear();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        for port in self.ports.lock().unwrap_or_else(PoisonError::into_inner).values() {
            port.task.abort();
        }
    }
}

/// Accepts connections until aborted, which ends the connections, too.
async fn serve(listener: TcpListener, client: String, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "origin cannot accept a connection");
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let _ = stream.set_nodelay(true);
        shared.log.connected(&client);
        let (client, shared) = (client.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let service = service_fn(|request| service::respond(&shared, &client, request));
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "connection to the origin ended");
            }
        });
    }
}
