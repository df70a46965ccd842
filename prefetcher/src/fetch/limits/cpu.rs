//! Hashing, unpacking and writing, off the asynchronous threads, on as many cores as there are, up to [`MOST`].

use std::sync::{Arc, Mutex, PoisonError};

use bundles::object::Scratch;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::fetch::failure::Failure;

/// They unpack some four gigabytes a second, which no line brings; and each holds a whole small object.
const MOST: usize = 8;

/// The machine's cores, and what each needs to unpack objects.
#[derive(Clone)]
pub struct CpuPool {
    free: Arc<Semaphore>,
    scratches: Arc<Mutex<Vec<Scratch>>>,
    count: usize,
}

impl std::fmt::Debug for CpuPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuPool").field("count", &self.count).finish_non_exhaustive()
    }
}

impl CpuPool {
    /// All that this process may use, if there are no more than it should.
    pub fn all() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        Self { free: Arc::new(Semaphore::new(count)), scratches: Arc::default(), count }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Begins `work` as soon as a core is free, and it goes on even when nobody waits for it any more.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scratch) -> Result<T, Failure> + Send + 'static,
    ) -> JoinHandle<Result<T, Failure>> {
        let (cores, span) = (self.clone(), tracing::Span::current());
        tokio::spawn(async move {
            let core = cores.free.clone().acquire_owned().await.map_err(|_| stopping("no core"))?;
            let task = tokio::task::spawn_blocking(move || {
                let _core = core;
                let mut scratch = cores.lend();
                let result = span.in_scope(|| work(&mut scratch));
                cores.give_back(scratch);
                result
            });
            task.await.map_err(stopping)?
        })
    }

    /// Does `work` on a free core.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scratch) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.start(work).await.map_err(stopping)?
    }

    fn lend(&self) -> Scratch {
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, scratch: Scratch) {
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}

fn stopping(error: impl std::fmt::Display) -> Failure {
    Failure::write(format!("the daemon is stopping or has a defect: {error}"))
}
