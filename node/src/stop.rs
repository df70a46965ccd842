//! Requests to stop a daemon: SIGTERM and SIGINT, received on a thread of their own.
//!
//! systemd kills a daemon that has not ended within `TimeoutStopSec`, and counts that as a failure. A daemon may be in a call to
//! a file system that never returns, on any of its threads. So the thread that receives the signals does nothing else, and ends
//! the process when the daemon has not done so in time.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Exit code of a process that did not end in time.
const EXIT_CODE: i32 = 1;

/// Receives the first request to stop. Clones receive it, too.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<&'static str>>);

impl Stop {
    /// From now on, SIGTERM and SIGINT no longer end the process at once. The process ends `limit` after the first of them at
    /// the latest.
    pub fn listen(limit: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _entered = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (sender, receiver) = watch::channel(None);
        let wait = move || {
            let name = runtime.block_on(first(signals));
            // Nobody waits for it if the daemon is ending already.
            sender.send_replace(Some(name));
            thread::sleep(limit);
            tracing::error!(
                ?limit,
                "the daemon did not stop in time: a file system or device does not respond; ending"
            );
            std::process::exit(EXIT_CODE);
        };
        thread::Builder::new().name("signals".into()).spawn(wait)?;
        Ok(Self(receiver))
    }

    /// Waits for a request to stop; the name of its signal.
    pub async fn requested(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or_default(),
            // Unreachable: the thread keeps the channel open until the process ends.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn first((mut terminate, mut interrupt): (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
