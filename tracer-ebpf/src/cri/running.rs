//! Containers and sandboxes that are there already: which they are, of which pod, and where their processes are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_cri::v1 as api;

use super::{CriError, DEADLINE, Result, Runtime, bounded};

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The runtime's name for it.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// The image as the pod names it.
    pub image: String,
    /// Its sandbox.
    pub sandbox: String,
    /// Its first process on the host, while it runs.
    pub process: Option<u32>,
    /// Where the runtime writes what it says.
    pub log: PathBuf,
    /// Its program and arguments.
    pub command: Vec<String>,
}

/// The pod of a container, as the runtime knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodInfo {
    /// Its namespace in Kubernetes.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

/// The part of containerd's verbose answer that is wanted here; CRI-O's has it too.
#[derive(serde::Deserialize)]
struct Verbose {
    #[serde(default)]
    pid: u32,
    #[serde(default, rename = "sandboxID")]
    sandbox: String,
    #[serde(default, rename = "runtimeSpec")]
    spec: Spec,
}

/// The part of an OCI runtime's configuration that is wanted here.
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
    /// What the runtime knows of a container; `None` if it has none of this id.
    pub async fn container(&mut self, id: &str) -> Result<Option<Container>> {
        let request = api::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let call = self.runtime.container_status(request);
        let answer = match bounded("ContainerStatus", id, DEADLINE, call).await {
            Err(CriError::Refused { status, .. }) if status.code() == tonic::Code::NotFound => return Ok(None),
            answer => answer?,
        };
        let wrong = |problem: String| CriError::Answer { call: "ContainerStatus", subject: id.to_owned(), problem };
        let status = answer.status.ok_or_else(|| wrong("has no status".into()))?;
        let info = answer.info.get("info").ok_or_else(|| wrong("has no verbose part".into()))?;
        let verbose: Verbose = serde_json::from_str(info)
            .map_err(|error| wrong(format!("has a verbose part that is not known: {error}")))?;
        let running = status.state() == api::ContainerState::ContainerRunning;
        Ok(Some(Container {
            id: status.id,
            name: status.metadata.unwrap_or_default().name,
            image: status.image.unwrap_or_default().image,
            sandbox: verbose.sandbox,
            process: Some(verbose.pid).filter(|pid| running && *pid != 0),
            log: status.log_path.into(),
            command: verbose.spec.process.args,
        }))
    }

    /// What the runtime knows of a pod, by its sandbox.
    pub async fn pod(&mut self, sandbox: &str) -> Result<PodInfo> {
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
        let call = self.runtime.pod_sandbox_status(request);
        let status = bounded("PodSandboxStatus", sandbox, DEADLINE, call).await?.status.unwrap_or_default();
        let metadata = status.metadata.unwrap_or_default();
        Ok(PodInfo { namespace: metadata.namespace, name: metadata.name, labels: status.labels })
    }

    /// The ids of the containers that run in the pod of this namespace and name.
    pub async fn containers_of_pod(&mut self, namespace: &str, name: &str) -> Result<Vec<String>> {
        let call = self.runtime.list_pod_sandbox(api::ListPodSandboxRequest { filter: None });
        let sandboxes = bounded("ListPodSandbox", name, DEADLINE, call).await?.items;
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
            let answer = bounded("ListContainers", name, DEADLINE, call).await?;
            found.extend(answer.containers.into_iter().map(|container| container.id));
        }
        Ok(found)
    }

    /// Runs a command in a container, as an exec probe of a kubelet; its exit code.
    pub async fn exec(&mut self, container: &str, command: &[String], limit: Duration) -> Result<i32> {
        let request = api::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.to_vec(),
            timeout: i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX),
        };
        let call = self.runtime.exec_sync(request);
        Ok(bounded("ExecSync", container, DEADLINE.saturating_add(limit), call).await?.exit_code)
    }
}
