//! The tokio runtime of a daemon, with a bounded number of threads.
//!
//! By default tokio starts one thread for each logical CPU and up to 512 for blocking work. On a node of 256 logical CPUs or
//! more these exceed the `TasksMax` of our systemd units, and tokio ends a process that cannot start a thread. The daemons
//! wait for disks, mounts and the network, so a few threads suffice on any node.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Maximum number of threads that run asynchronous code.
pub const MAX_WORKERS: usize = 4;
/// Maximum number of threads that do blocking work for asynchronous code. Further work waits for one of them.
pub const MAX_BLOCKING: usize = 64;

/// Starts the runtime of a daemon, with as many workers as there are CPUs that this process may use, up to [`MAX_WORKERS`].
pub fn start() -> io::Result<Runtime> {
    with_cpus(std::thread::available_parallelism().map_or(1, usize::from))
}

fn with_cpus(cpus: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(cpus.clamp(1, MAX_WORKERS))
        .max_blocking_threads(MAX_BLOCKING)
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_runtime_has_few_threads_on_any_number_of_cpus() {
        for (cpus, workers) in [(1, 1), (2, 2), (4, 4), (5, 4), (512, 4)] {
            let runtime = with_cpus(cpus).unwrap();
            assert_eq!(runtime.metrics().num_workers(), workers, "{cpus}");
            assert_eq!(runtime.block_on(async { tokio::task::spawn_blocking(|| 3).await.unwrap() }), 3, "{cpus}");
        }
    }
}
