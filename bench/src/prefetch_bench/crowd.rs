//! Many containers of one image that start at the same time.

use std::time::Duration;

use anyhow::Result;
use testbed::site::{Site, label};

use super::daemon::{by_name, finished, prefetch, with_daemon};
use super::place::Place;
use super::workload::Workload;
use crate::condition::Condition;

const CALLERS: usize = 50;
const LONG: Duration = Duration::from_secs(600);

/// The bytes that the server sends for 50 calls, as a multiple of those for one.
pub(super) async fn measure(site: &Site, workload: &Workload) -> Result<f64> {
    let condition = Condition::of(0);
    let place = Place::start(site, &condition, with_daemon(site, &[]))?;
    let one = prefetch(site, &place, by_name(&workload.packed)).await?.bytes();
    drop(place);
    let place = Place::start(site, &condition, with_daemon(site, &[]))?;
    site.origin.take_requests();
    let call = || {
        // A connection of its own for each.
        let (daemon, place) = (place.daemon(), &place);
        async move {
            let id = daemon.ask(by_name(&workload.packed)).await?;
            finished(place, &daemon.wait(id, LONG).await?)
        }
    };
    futures::future::try_join_all((0..CALLERS).map(|_| call())).await?;
    let all = site.origin.totals(label::DAEMON).bytes;
    Ok(all as f64 / one as f64)
}
