//! Finding a running container by its id, pod or cgroup.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bundles::image::ImageId;
use tracer_ebpf::cgroup::Hierarchy;
use tracer_ebpf::cri::{Container, Runtime};

#[derive(clap::Args)]
#[group(id = "attach", multiple = false)]
#[command(next_help_heading = "Running container (instead of running IMAGE)")]
pub(crate) struct AttachArgs {
    /// ID of a running container
    ///
    /// The recorder misses the start of a running container, and the trace says so.
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// Pod whose container to record; if it has several, --name selects one
    #[arg(long, value_name = "NAMESPACE/POD", value_parser = pod_name)]
    pod: Option<(String, String)>,
    /// Cgroup whose processes to record, relative to the root of the hierarchy; IMAGE is their image
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
}

/// A running container to record.
pub(crate) struct Running {
    pub(crate) cgroup: PathBuf,
    pub(crate) image: ImageId,
    /// None for `--cgroup`: the runtime may not know it.
    pub(crate) container: Option<Container>,
}

impl AttachArgs {
    /// Whether a running container shall be recorded.
    pub(crate) fn is_given(&self) -> bool {
        self.container.is_some() || self.pod.is_some() || self.cgroup.is_some()
    }

    /// Finds the container. Only a cgroup needs `image`.
    pub(crate) async fn find(
        &self,
        runtime: &mut Runtime,
        hierarchy: &Hierarchy,
        image: Option<&str>,
        name: Option<&str>,
    ) -> Result<Running> {
        if let Some(path) = &self.cgroup {
            let image = image.context("--cgroup needs IMAGE: the reference of the container's image")?;
            let image = image_id(runtime, image).await?;
            return Ok(Running { cgroup: hierarchy.directory(path), image, container: None });
        }
        let container = match (&self.container, &self.pod) {
            (Some(id), _) => {
                runtime.container(id).await?.with_context(|| format!("the runtime has no container {id}"))?
            }
            (None, Some((namespace, pod))) => container_of_pod(runtime, namespace, pod, name).await?,
            (None, None) => bail!("no container given"),
        };
        let id = &container.id;
        let process = container.process.with_context(|| format!("the container {id} is not running"))?;
        let cgroup = hierarchy.cgroup_of_process(process)?.with_context(|| {
            let mount = hierarchy.mount_point.display();
            format!(
                "the container {id} is in no cgroup below {mount}: its runtime uses the other version, try --cgroups v1"
            )
        })?;
        let image = image_id(runtime, &container.image).await?;
        Ok(Running { cgroup, image, container: Some(container) })
    }
}

async fn container_of_pod(runtime: &mut Runtime, namespace: &str, pod: &str, name: Option<&str>) -> Result<Container> {
    let mut found = Vec::new();
    for id in runtime.containers_of_pod(namespace, pod).await? {
        found.extend(runtime.container(&id).await?);
    }
    found.retain(|container| name.is_none_or(|name| container.name == name));
    let names: Vec<_> = found.iter().map(|container| container.name.clone()).collect();
    ensure!(
        found.len() < 2,
        "the pod {namespace}/{pod} has several containers: select one with --name: {}",
        names.join(", ")
    );
    found.pop().with_context(|| format!("no container is running in the pod {namespace}/{pod}"))
}

/// The names of an image that the runtime has under `reference`.
pub(crate) async fn image_id(runtime: &mut Runtime, reference: &str) -> Result<ImageId> {
    let info = runtime.image_status(reference).await?;
    let info = info.with_context(|| format!("the runtime does not have the image {reference}"))?;
    Ok(ImageId { chain_id: info.chain_id, manifest: info.manifest, reference: reference.to_owned() })
}

fn pod_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.into(), name.into()))
        }
        _ => Err("expected NAMESPACE/POD".into()),
    }
}

/// The container id at the end of a cgroup's path: `<id>`, `cri-containerd-<id>.scope` and the like.
pub(crate) fn container_id(cgroup: &Path) -> Option<String> {
    let name = cgroup.file_name()?.to_str()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit('-').next()?;
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn container_ids_are_found_in_cgroups_of_both_drivers() {
        let id = "0123456789abcdef".repeat(4);
        for (path, found) in [
            (format!("/kubepods/burstable/pod1/{id}"), true),
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), true),
            (format!("/kubepods/pod1/{}", &id[1..]), false),
            (format!("/kubepods/pod1/{}g", &id[1..]), false),
            ("/".into(), false),
        ] {
            assert_eq!(container_id(Path::new(&path)), found.then(|| id.clone()), "{path}");
        }
    }

    #[test]
    fn pods_have_a_namespace() {
        assert_eq!(pod_name("physics/root-1").unwrap(), ("physics".into(), "root-1".into()));
        for bad in ["root", "/root", "physics/", "a/b/c"] {
            assert!(pod_name(bad).is_err(), "{bad}");
        }
    }
}
