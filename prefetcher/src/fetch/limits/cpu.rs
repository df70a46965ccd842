//! Hashes, unpacks and writes objects off the asynchronous threads, on all cores up to [`MAX_CORES`].

use std::sync::Arc;

use bundles::object::Scratch;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::fetch::failure::Failure;

/// Maximum number of cores. This many unpack some four gigabytes a second, more than a link carries, and each holds a whole small
/// object in memory.
const MAX_CORES: usize = 8;

/// The machine's cores, and the buffers that each needs to unpack objects. Clones share them.
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
    /// All cores that this process may use, up to [`MAX_CORES`].
    pub fn all() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_CORES);
        Self { free: Arc::new(Semaphore::new(count)), scratches: Arc::default(), count }
    }

    /// Number of cores.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Starts `work` as soon as a core is free. It runs to its end even when nobody waits for it any more.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scratch) -> Result<T, Failure> + Send + 'static,
    ) -> JoinHandle<Result<T, Failure>> {
        let (cores, span) = (self.clone(), tracing::Span::current());
        tokio::spawn(async move {
            let core = cores.free.clone().acquire_owned().await.map_err(|_| stopping("no core is left"))?;
            let task = tokio::task::spawn_blocking(move || {
                let _core = core;
                let mut scratch = cores.take_scratch();
                let result = span.in_scope(|| work(&mut scratch));
                cores.return_scratch(scratch);
                result
            });
            task.await.map_err(stopping)?
        })
    }

    /// Runs `work` on a free core and returns its result.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scratch) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.start(work).await.map_err(stopping)?
    }

    fn take_scratch(&self) -> Scratch {
        self.scratches.lock().pop().unwrap_or_default()
    }

    fn return_scratch(&self, scratch: Scratch) {
        self.scratches.lock().push(scratch);
    }
}

fn stopping(error: impl std::fmt::Display) -> Failure {
    Failure::write(format!("the daemon is stopping or has a defect: {error}"))
}
