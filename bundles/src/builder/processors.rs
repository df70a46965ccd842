//! Work on all processors.

use std::panic::resume_unwind;
use std::thread;

/// Has `work` done on as many portions of `items` as there are processors, side by side. What comes of each is in the order of
/// the items.
pub(super) fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let portions = items.chunks(items.len().div_ceil(processors).max(1));
    thread::scope(|scope| {
        let threads: Vec<_> = portions.map(|portion| scope.spawn(|| work(portion))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_the_order_stays() {
        for count in [0, 1, 2, 7, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let worked = side_by_side(&items, |portion| portion.to_vec());
            assert_eq!(worked.concat(), items);
        }
    }
}
