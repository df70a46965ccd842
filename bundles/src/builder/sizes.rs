//! How many bytes objects have on their servers.

use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Repositories;
use crate::bundle::BundleObject;
use crate::cvmfs::{CvmfsError, Server};
use crate::object::{ContentHash, ObjectKind};

/// How many are asked for at a time.
const AT_A_TIME: usize = 32;

/// Asks the servers for the size of every object, which also shows that they have them all.
pub(super) async fn with_stored_sizes(
    mut objects: Vec<BundleObject>,
    repositories: &Repositories,
) -> Result<Vec<BundleObject>, CvmfsError> {
    let servers: Arc<[Server]> = repositories.servers().cloned().collect();
    // Each task asks for one after the other, so that the processors share the work.
    let share = objects.len().div_ceil(AT_A_TIME).max(1);
    let mut tasks = JoinSet::new();
    for (number, objects) in objects.chunks(share).enumerate() {
        let requested = objects.iter().map(|object| (object.repository, object.hash, object.kind)).collect();
        let servers = Arc::clone(&servers);
        tasks.spawn(async move { sizes(requested, &servers).await.map(|sizes| (number, sizes)) });
    }
    while let Some(ended) = tasks.join_next().await {
        let (number, sizes) = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        for (object, size) in objects[number * share..].iter_mut().zip(sizes) {
            object.stored_size = size;
        }
    }
    Ok(objects)
}

async fn sizes(requested: Vec<(u16, ContentHash, ObjectKind)>, servers: &[Server]) -> Result<Vec<u64>, CvmfsError> {
    let mut sizes = Vec::with_capacity(requested.len());
    for (repository, hash, kind) in requested {
        sizes.push(servers[usize::from(repository)].stored_size(&hash, kind).await?);
    }
    Ok(sizes)
}
