//! Looks up existing containers and pods, and runs probes in them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_cri::v1 as api;

use super::{CriError, ResponseError, Result, Runtime, TIMEOUT, with_timeout};

/// An existing container, as the runtime knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The runtime's id of the container, which its cgroup's name contains.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// The image reference of the pod's specification.
    pub image: String,
    /// The id of the pod's sandbox, for [`Runtime::pod`].
    pub sandbox: String,
    /// The host pid of the container's first process; None unless it is running.
    pub process: Option<u32>,
    /// The file that the runtime writes the container's output to.
    pub log: PathBuf,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// The pod of a container, as the runtime knows it. `watch` selects containers by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodInfo {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The pod's name in that namespace.
    pub name: String,
    /// The pod's Kubernetes labels.
    pub labels: HashMap<String, String>,
}

/// The fields used from the verbose part of the response. CRI-O has them as well as containerd.
#[derive(serde::Deserialize)]
struct Verbose {
    #[serde(default)]
    pid: u32,
    #[serde(default, rename = "sandboxID")]
    sandbox: String,
    #[serde(default, rename = "runtimeSpec")]
    spec: Spec,
}

/// The fields used from the OCI runtime's configuration.
#[derive(Default, serde::Deserialize)]
struct Spec {
    #[serde(default)]
    process: SpecProcess,
}

#[derive(Default, serde::Deserialize)]
struct SpecProcess {
    #[serde(default)]
    args: Vec<String>,
}

impl Runtime {
    /// Looks up a container; `None` if the runtime has no container of this id.
    pub async fn container(&mut self, id: &str) -> Result<Option<Container>> {
        let request = api::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let call = self.runtime.container_status(request);
        let response = match with_timeout("ContainerStatus", id, TIMEOUT, call).await {
            Err(CriError::Failed { status, .. }) if status.code() == tonic::Code::NotFound => return Ok(None),
            response => response?,
        };
        container_info(response).map(Some).map_err(|source| CriError::InvalidResponse {
            call: "ContainerStatus",
            subject: id.to_owned(),
            source,
        })
    }

    /// Looks up a pod by its sandbox.
    pub async fn pod(&mut self, sandbox: &str) -> Result<PodInfo> {
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
        let call = self.runtime.pod_sandbox_status(request);
        let status = with_timeout("PodSandboxStatus", sandbox, TIMEOUT, call).await?.status.unwrap_or_default();
        let metadata = status.metadata.unwrap_or_default();
        Ok(PodInfo { namespace: metadata.namespace, name: metadata.name, labels: status.labels })
    }

    /// Lists the ids of the running containers of a pod.
    pub async fn containers_of_pod(&mut self, namespace: &str, name: &str) -> Result<Vec<String>> {
        let call = self.runtime.list_pod_sandbox(api::ListPodSandboxRequest { filter: None });
        let sandboxes = with_timeout("ListPodSandbox", name, TIMEOUT, call).await?.items;
        let is = |metadata: &Option<api::PodSandboxMetadata>| {
            metadata.as_ref().is_some_and(|metadata| metadata.namespace == namespace && metadata.name == name)
        };
        let mut found = Vec::new();
        for sandbox in sandboxes.iter().filter(|sandbox| is(&sandbox.metadata)) {
            let state = api::ContainerStateValue { state: api::ContainerState::ContainerRunning.into() };
            let filter = api::ContainerFilter {
                pod_sandbox_id: sandbox.id.clone(),
                state: Some(state),
                ..api::ContainerFilter::default()
            };
            let call = self.runtime.list_containers(api::ListContainersRequest { filter: Some(filter) });
            let response = with_timeout("ListContainers", name, TIMEOUT, call).await?;
            found.extend(response.containers.into_iter().map(|container| container.id));
        }
        Ok(found)
    }

    /// Runs a command in a container, as a kubelet's exec probe does. Returns its exit code.
    pub async fn exec(&mut self, container: &str, command: &[String], timeout: Duration) -> Result<i32> {
        let request = api::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.to_vec(),
            timeout: i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX),
        };
        let call = self.runtime.exec_sync(request);
        Ok(with_timeout("ExecSync", container, TIMEOUT.saturating_add(timeout), call).await?.exit_code)
    }
}

fn container_info(response: api::ContainerStatusResponse) -> std::result::Result<Container, ResponseError> {
    let status = response.status.ok_or(ResponseError::NoStatus)?;
    let info = response.info.get("info").ok_or(ResponseError::NoVerbosePart)?;
    let verbose: Verbose = serde_json::from_str(info)?;
    let running = status.state() == api::ContainerState::ContainerRunning;
    Ok(Container {
        id: status.id,
        name: status.metadata.unwrap_or_default().name,
        image: status.image.unwrap_or_default().image,
        sandbox: verbose.sandbox,
        process: Some(verbose.pid).filter(|pid| running && *pid != 0),
        log: status.log_path.into(),
        command: verbose.spec.process.args,
    })
}
