//! Work that a hung mount or program may never finish.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Runs `work` on a thread of its own and waits for it until the deadline. After that the thread is left behind.
pub fn within<T: Send + 'static>(
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, result) = sync_channel(1);
    let spawned = std::thread::Builder::new().name("deadline".into()).spawn(move || {
        // Nobody waits for a late result.
        let _ = done.send(work());
    });
    spawned.map_err(|e| format!("{what}: no thread to ask on: {e}"))?;
    result.recv_timeout(deadline).map_err(|e| match e {
        RecvTimeoutError::Timeout => format!("{what} did not answer within {} s", deadline.as_secs_f32()),
        RecvTimeoutError::Disconnected => format!("{what}: asking ended unexpectedly"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_left_behind() {
        assert_eq!(within(Duration::from_secs(30), "quick", || 3), Ok(3));
        let message = within(Duration::from_millis(5), "mount /x", std::thread::park).unwrap_err();
        assert!(message.contains("mount /x did not answer"), "{message}");
    }
}
