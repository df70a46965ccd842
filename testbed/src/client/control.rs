//! The control socket: queries of tests to a running client, one line each.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use fuser::{INodeNo, Notifier};

use super::filesystem::Mounted;

/// Returns [`Statistics`](super::Statistics) as JSON.
pub(super) const STATISTICS: &str = "statistics";
/// Returns the number of the mounted revision.
pub(super) const REMOUNT: &str = "remount";
/// Followed by a [`NativeBundle`] as JSON.
pub(super) const ARM: &str = "arm";

const OK: &str = "ok ";

/// Sends `query` to the client at `socket`; returns its response.
pub(super) fn send(socket: &Path, query: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("no client at {}", socket.display()))?;
    stream.write_all(format!("{query}\n").as_bytes())?;
    let mut response = String::new();
    BufReader::new(stream).read_line(&mut response)?;
    match response.trim_end().strip_prefix(OK) {
        Some(response) => Ok(response.to_owned()),
        None => bail!("the client responds to {query:?} with {response:?}"),
    }
}

/// Responds to queries until the process ends.
pub(super) fn serve(listener: &UnixListener, mounted: &Arc<Mounted>, notifier: &Notifier) {
    for stream in listener.incoming() {
        if let Err(error) = stream.map_err(Into::into).and_then(|stream| respond(stream, mounted, notifier)) {
            tracing::warn!("control socket: {error:#}");
        }
    }
}

fn respond(mut stream: UnixStream, mounted: &Mounted, notifier: &Notifier) -> Result<()> {
    let mut query = String::new();
    BufReader::new(&stream).read_line(&mut query)?;
    let response = match query.trim_end() {
        STATISTICS => Ok(serde_json::to_string(&mounted.objects.downloader.counters.statistics())?),
        REMOUNT => remount(mounted, notifier).map(|revision| revision.to_string()),
        other => match other.strip_prefix(ARM) {
            Some(bundle) => arm(mounted, bundle).map(|()| "armed".to_owned()),
            None => Err(anyhow::anyhow!("unknown query {other:?}")),
        },
    };
    let line = match response {
        Ok(response) => format!("{OK}{response}\n"),
        Err(error) => format!("{error:#}\n"),
    };
    Ok(stream.write_all(line.as_bytes())?)
}

fn arm(mounted: &Mounted, bundle: &str) -> Result<()> {
    mounted.native.arm(serde_json::from_str(bundle).context("a native bundle")?);
    Ok(())
}

fn remount(mounted: &Mounted, notifier: &Notifier) -> Result<u64> {
    let (revision, changes) = mounted.reload()?;
    for (parent, name) in changes.names {
        notifier.inval_entry(INodeNo(parent), name.as_ref())?;
    }
    for directory in changes.directories {
        notifier.inval_inode(INodeNo(directory), 0, 0)?;
    }
    Ok(revision)
}
