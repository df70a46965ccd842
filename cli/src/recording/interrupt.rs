//! Ctrl-C and SIGTERM. They end a recording, which then cleans up after itself.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether this process shall end. After [`Interrupt::listen`], the signals no longer kill the process.
#[derive(Clone)]
pub(crate) struct Interrupt {
    requested: watch::Receiver<bool>,
    request: Arc<watch::Sender<bool>>,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let (request, requested) = watch::channel(false);
        let request = Arc::new(request);
        let on_signal = Arc::clone(&request);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                on_signal.send_replace(true);
            }
        });
        Ok(Self { requested, request })
    }

    /// Ends all recordings of this process, as a signal does.
    pub(crate) fn request(&self) {
        self.request.send_replace(true);
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&mut self) {
        if self.requested.wait_for(|requested| *requested).await.is_err() {
            // Unreachable: `self.request` keeps the channel open.
            std::future::pending().await
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if *self.requested.borrow() {
            bail!("interrupted");
        }
        Ok(())
    }
}
