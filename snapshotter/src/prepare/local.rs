//! Creating a snapshot with files of its own: a container, a view, or a layer to unpack.

use std::time::SystemTime;

use containerd_snapshots::api::types::Mount;

use super::Request;
use super::plan::PreparePlan;
use crate::error::Error;
use crate::idmap::is_shifted;
use crate::root::Root;
use crate::snapshots::Content;
use crate::snapshots::state::NewSnapshot;

/// Creates the directory and the record of the snapshot, and returns its mounts.
pub fn create(root: &Root, request: Request, plan: PreparePlan) -> Result<Vec<Mount>, Error> {
    let owner = owner_of_root(root, &request, &plan)?;
    root.with_new_directory(|id| {
        root.directories.make_local(id, request.kind, owner)?;
        let new = NewSnapshot {
            id,
            kind: request.kind,
            parent: request.parent,
            labels: request.labels,
            content: Content::Local,
            now: SystemTime::now(),
        };
        root.store.update(|state| {
            let change = state.create(&request.key, new)?;
            let mounts = match &change.put {
                Some((_, snapshot)) => root.mounts(state, snapshot)?,
                None => Vec::new(),
            };
            Ok((change, mounts))
        })
    })
}

/// The owner of the new root directory: the parent's, or else the root of the container's user namespace.
fn owner_of_root(root: &Root, request: &Request, plan: &PreparePlan) -> Result<Option<(u32, u32)>, Error> {
    let Some(parent) = &plan.parent else { return Ok(request.mapped_root) };
    let owner = root.directories.owner(parent).or_else(|error| {
        // If the parent was removed since the plan was made, that is the error to return.
        root.store.read(|state| state.check_new(&request.key, request.parent.as_deref()))?;
        Err(Error::from(error))
    })?;
    if let Some(mapped_root) = request.mapped_root
        && !is_shifted(owner, parent.layerfs().is_none(), mapped_root)
    {
        return Err(Error::CannotShiftOwners(request.key.clone()));
    }
    Ok(Some(owner))
}
