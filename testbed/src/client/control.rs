//! The control socket: what a test asks a running client, one line for one line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use fuser::{INodeNo, Notifier};

use super::filesystem::Mounted;

/// Answered with [`Statistics`](super::Statistics) as JSON.
pub(super) const STATISTICS: &str = "statistics";
/// Answered with the number of the revision then mounted.
pub(super) const REMOUNT: &str = "remount";
/// Followed by a [`NativeBundle`] as JSON.
pub(super) const ARM: &str = "arm";

const OK: &str = "ok ";

/// Sends `question` to the client at `socket`.
pub(super) fn ask(socket: &Path, question: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("no client at {}", socket.display()))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim_end().strip_prefix(OK) {
        Some(answer) => Ok(answer.to_owned()),
        None => bail!("the client answers {question:?} with {answer:?}"),
    }
}

/// Answers questions until the process ends.
pub(super) fn serve(listener: &UnixListener, mounted: &Arc<Mounted>, notifier: &Notifier) {
    for stream in listener.incoming() {
        if let Err(error) = stream.map_err(Into::into).and_then(|stream| answer(stream, mounted, notifier)) {
            tracing::warn!("control socket: {error:#}");
        }
    }
}

fn answer(mut stream: UnixStream, mounted: &Mounted, notifier: &Notifier) -> Result<()> {
    let mut question = String::new();
    BufReader::new(&stream).read_line(&mut question)?;
    let answer = match question.trim_end() {
        STATISTICS => Ok(serde_json::to_string(&mounted.objects.downloader.counters.statistics())?),
        REMOUNT => remount(mounted, notifier).map(|revision| revision.to_string()),
        other => match other.strip_prefix(ARM) {
            Some(bundle) => arm(mounted, bundle).map(|()| "armed".to_owned()),
            None => Err(anyhow::anyhow!("unknown question {other:?}")),
        },
    };
    let line = match answer {
        Ok(answer) => format!("{OK}{answer}\n"),
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
