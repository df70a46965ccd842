//! Ctrl-C and SIGTERM, which end a recording but must not keep it from cleaning up.

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether this process was asked to end. From [`Interrupt::listen`] on, signals do not kill it any more.
#[derive(Clone)]
pub(crate) struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let (sender, asked) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                sender.send_replace(true);
            }
        });
        Ok(Self { asked })
    }

    /// Returns when the process has been asked to end.
    pub(crate) async fn wait(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // The listening task lives as long as the runtime, so this is never reached.
            std::future::pending().await
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if *self.asked.borrow() {
            bail!("interrupted");
        }
        Ok(())
    }
}
