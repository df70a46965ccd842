//! Downloads of a delivery that have started and not ended.

use std::pin::Pin;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

type Downloads<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>;

/// Downloads of packs and of single objects, each kind with a maximum. They progress only while one of the methods is awaited.
pub(super) struct InFlight<'a> {
    packs: Downloads<'a>,
    objects: Downloads<'a>,
    max_packs: usize,
    max_objects: usize,
}

impl<'a> InFlight<'a> {
    pub(super) fn new(max_packs: usize, max_objects: usize) -> Self {
        Self { packs: Downloads::new(), objects: Downloads::new(), max_packs, max_objects }
    }

    /// Adds the download of a pack, after waiting until fewer than the maximum are in flight.
    pub(super) async fn add_pack(&mut self, download: impl Future<Output = ()> + Send + 'a) {
        while self.packs.len() >= self.max_packs {
            self.next().await;
        }
        self.packs.push(Box::pin(download));
    }

    /// Adds the download of an object, after waiting until fewer than the maximum are in flight.
    pub(super) async fn add_object(&mut self, download: impl Future<Output = ()> + Send + 'a) {
        while self.objects.len() >= self.max_objects {
            self.next().await;
        }
        self.objects.push(Box::pin(download));
    }

    /// Waits for `work` while the downloads progress.
    pub(super) async fn progress_until<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            let is_idle = self.is_empty();
            tokio::select! {
                done = &mut work => return done,
                () = self.next(), if !is_idle => {}
            }
        }
    }

    /// Waits until all downloads have ended.
    pub(super) async fn finish(mut self) {
        while !self.is_empty() {
            self.next().await;
        }
    }

    fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.objects.is_empty()
    }

    /// Waits until a download has ended.
    async fn next(&mut self) {
        tokio::select! {
            Some(()) = self.packs.next(), if !self.packs.is_empty() => {}
            Some(()) = self.objects.next(), if !self.objects.is_empty() => {}
            else => {}
        }
    }
}
