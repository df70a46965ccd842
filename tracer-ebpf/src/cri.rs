//! A thin client of the Container Runtime Interface (CRI), the API through which a kubelet runs pods.
//!
//! [`Runtime`] has a method for each call that the recorder and the tests need. Each call has a timeout, and its error names
//! the object of the call. [`pod`] runs a pod with one container from pull to clean-up. [`log`] parses the containers' logs.

pub mod log;
pub mod pod;
mod running;

pub use running::{Container, PodInfo};

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bundles::image::{ChainId, Digest, ParseDigestError};
use k8s_cri::v1 as api;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// Timeout of a call. Generous, because an overloaded runtime answers late.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of an image pull.
const PULL_TIMEOUT: Duration = Duration::from_secs(1800);
/// Interval between two looks for the end of a container.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Interval between two calls to a runtime that does not answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Why a CRI call failed. `call` is the method of the CRI, `subject` the image, pod or container that it was made for.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// The connection to the runtime's socket failed.
    #[error("cannot connect to the container runtime on {socket}; is it running, and is this its CRI socket?")]
    Connect {
        /// The path of the socket.
        socket: PathBuf,
        /// The error of the transport.
        #[source]
        source: tonic::transport::Error,
    },
    /// The runtime returned an error.
    #[error("{call} of {subject} failed: {} ({:?})", status.message(), status.code())]
    Failed {
        /// The method of the CRI.
        call: &'static str,
        /// The object of the call.
        subject: String,
        /// The gRPC status, with the runtime's message.
        status: Box<Status>,
    },
    /// The runtime did not respond in time.
    #[error("{call} of {subject} did not complete within {timeout:?}")]
    Timeout {
        /// The method of the CRI.
        call: &'static str,
        /// The object of the call.
        subject: String,
        /// The timeout that passed.
        timeout: Duration,
    },
    /// The runtime's response lacks something, or does not have containerd's form.
    #[error("{call} of {subject}: invalid response")]
    InvalidResponse {
        /// The method of the CRI.
        call: &'static str,
        /// The object of the call.
        subject: String,
        /// What is wrong with the response.
        #[source]
        source: ResponseError,
    },
    /// The container's log, which the runtime writes, cannot be read.
    #[error("cannot read the log of container {container}, {path}")]
    Log {
        /// The id of the container.
        container: String,
        /// Where the runtime should have written the log.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
}

/// What is wrong with a runtime's response.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The status of the container is missing.
    #[error("it has no status")]
    NoStatus,
    /// The verbose part is missing, where runtimes put what the CRI has no field for.
    #[error("it has no verbose part")]
    NoVerbosePart,
    /// The verbose part has an unknown form.
    #[error("its verbose part does not have containerd's form")]
    VerbosePart(#[from] serde_json::Error),
    /// The image has no layers, so it has no chain ID.
    #[error("it lists no layers")]
    NoLayers,
    /// A string that should be a digest is not one.
    #[error("it contains an invalid digest")]
    Digest(#[from] ParseDigestError),
}

impl CriError {
    /// Whether the call may succeed later: the runtime is being restarted, or overloaded.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Failed { status, .. } => !matches!(
                status.code(),
                Code::NotFound
                    | Code::InvalidArgument
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::Unimplemented
            ),
            Self::Connect { .. } | Self::Timeout { .. } => true,
            Self::InvalidResponse { .. } | Self::Log { .. } => false,
        }
    }
}

type Result<T> = std::result::Result<T, CriError>;

/// An image on the node, as the runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Digest of the image's configuration, which the runtime uses as its id.
    pub id: Digest,
    /// Digest of the image's manifest, if it was pulled from a registry.
    pub manifest: Option<Digest>,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Chain ID of the topmost layer, which identifies the image in bundles and traces.
    pub chain_id: ChainId,
}

/// The sandbox of a pod, for [`Runtime::run_sandbox`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Name of the pod. The combination of name, namespace and uid must be unique.
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Unique id of the pod, as Kubernetes assigns it.
    pub uid: String,
    /// Parent of the cgroups of the sandbox and its containers; empty for the runtime's default.
    pub cgroup_parent: String,
    /// Directory for the containers' logs.
    pub log_directory: PathBuf,
    /// Use the host's network instead of the one that CNI sets up.
    pub host_network: bool,
    /// Kubernetes labels of the pod, which `watch --label` selects by.
    pub labels: HashMap<String, String>,
}

/// A container, for [`Runtime::create_container`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Reference or id of an image on the node.
    pub image: String,
    /// Name, unique in the sandbox.
    pub name: String,
    /// Replaces the image's entry point.
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments, unless empty.
    pub args: Vec<String>,
    /// Variables added to the image's environment.
    pub env: Vec<(String, String)>,
    /// Log file, relative to the sandbox's log directory.
    pub log_path: String,
    /// Directories and files of the host to mount in the container.
    pub mounts: Vec<MountSpec>,
    /// Kubernetes labels of the container.
    pub labels: HashMap<String, String>,
    /// Annotations, which containerd also passes to OCI hooks and snapshotters.
    pub annotations: HashMap<String, String>,
}

/// A directory or file of the host to mount in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// Path on the host.
    pub host: PathBuf,
    /// Mount point in the container.
    pub container: PathBuf,
    /// Mount it read-only.
    pub read_only: bool,
}

/// How a container ended, as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code of the container's first process.
    pub code: i32,
    /// The runtime's reason, such as `Completed` or `OOMKilled`.
    pub reason: String,
    /// Run time of the container's first process, by the runtime's clock.
    pub run: Duration,
}

/// A created sandbox, with the configuration that every call for its containers must repeat.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The runtime's id of the sandbox.
    pub id: String,
    config: api::PodSandboxConfig,
}

/// A connection to a container runtime. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Runtime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Runtime {
    /// Connects to the CRI socket of a runtime.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let uri = [b"unix://", socket.as_os_str().as_bytes()].concat();
        let connected = async { Endpoint::from_shared(uri)?.connect_timeout(TIMEOUT).connect().await }.await;
        let channel = connected.map_err(|source| CriError::Connect { socket: socket.to_owned(), source })?;
        Ok(Self { runtime: RuntimeServiceClient::new(channel.clone()), images: ImageServiceClient::new(channel) })
    }

    /// Whether the runtime is ready to run containers.
    pub async fn is_ready(&mut self) -> Result<bool> {
        let call = self.runtime.status(api::StatusRequest { verbose: false });
        let status = with_timeout("Status", "the runtime", TIMEOUT, call).await?.status.unwrap_or_default();
        Ok(status.conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status))
    }

    /// Pulls an image. Returns the runtime's id of the image.
    pub async fn pull(&mut self, reference: &str) -> Result<String> {
        let request = api::PullImageRequest { image: Some(image(reference)), ..Default::default() };
        Ok(with_timeout("PullImage", reference, PULL_TIMEOUT, self.images.pull_image(request)).await?.image_ref)
    }

    /// Looks up an image on the node; `None` if the runtime does not have it.
    pub async fn image_status(&mut self, reference: &str) -> Result<Option<ImageInfo>> {
        const CALL: &str = "ImageStatus";
        let request = api::ImageStatusRequest { image: Some(image(reference)), verbose: true };
        let response = with_timeout(CALL, reference, TIMEOUT, self.images.image_status(request)).await?;
        let Some(image) = response.image else { return Ok(None) };
        let info = image_info(&image, &response.info);
        info.map(Some).map_err(|source| CriError::InvalidResponse { call: CALL, subject: reference.to_owned(), source })
    }

    /// Removes an image. Succeeds if the runtime does not have it.
    pub async fn remove_image(&mut self, reference: &str) -> Result<()> {
        let request = api::RemoveImageRequest { image: Some(image(reference)) };
        with_timeout("RemoveImage", reference, TIMEOUT, self.images.remove_image(request)).await.map(drop)
    }

    /// Creates and starts a sandbox.
    pub async fn run_sandbox(&mut self, spec: &SandboxSpec) -> Result<Sandbox> {
        let config = sandbox_config(spec);
        let request = api::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let call = self.runtime.run_pod_sandbox(request);
        let id = with_timeout("RunPodSandbox", &spec.name, TIMEOUT, call).await?.pod_sandbox_id;
        Ok(Sandbox { id, config })
    }

    /// Creates a container, without starting it. Returns its id.
    pub async fn create_container(&mut self, sandbox: &Sandbox, spec: &ContainerSpec) -> Result<String> {
        let request = api::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(container_config(spec)),
            sandbox_config: Some(sandbox.config.clone()),
        };
        let call = self.runtime.create_container(request);
        Ok(with_timeout("CreateContainer", &spec.name, TIMEOUT, call).await?.container_id)
    }

    /// Starts a created container.
    pub async fn start(&mut self, container: &str) -> Result<()> {
        let request = api::StartContainerRequest { container_id: container.to_owned() };
        with_timeout("StartContainer", container, TIMEOUT, self.runtime.start_container(request)).await.map(drop)
    }

    /// Waits until a container has ended, for at most `timeout`.
    pub async fn wait_exit(&mut self, container: &str, timeout: Duration) -> Result<Exit> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let request = api::ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
            let call = self.runtime.container_status(request);
            let status = match with_timeout("ContainerStatus", container, TIMEOUT, call).await {
                Ok(response) => response.status.unwrap_or_default(),
                // Containers outlive a restart of their runtime.
                Err(error) if error.is_temporary() && tokio::time::Instant::now() < deadline => {
                    tracing::debug!(%error, "the runtime does not answer; waiting");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if status.state() == api::ContainerState::ContainerExited {
                let run = status.finished_at.saturating_sub(status.started_at);
                let run = Duration::from_nanos(u64::try_from(run).unwrap_or_default());
                return Ok(Exit { code: status.exit_code, reason: status.reason, run });
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(CriError::Timeout { call: "the run", subject: container.to_owned(), timeout });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops a container by SIGTERM, and by SIGKILL after `grace`.
    pub async fn stop(&mut self, container: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = api::StopContainerRequest { container_id: container.to_owned(), timeout };
        let call = self.runtime.stop_container(request);
        with_timeout("StopContainer", container, TIMEOUT.saturating_add(grace), call).await.map(drop)
    }

    /// Removes a container, running or not. Succeeds if it does not exist.
    pub async fn remove_container(&mut self, container: &str) -> Result<()> {
        let request = api::RemoveContainerRequest { container_id: container.to_owned() };
        with_timeout("RemoveContainer", container, TIMEOUT, self.runtime.remove_container(request)).await.map(drop)
    }

    /// Stops a sandbox and its containers.
    pub async fn stop_sandbox(&mut self, sandbox: &str) -> Result<()> {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        with_timeout("StopPodSandbox", sandbox, TIMEOUT, self.runtime.stop_pod_sandbox(request)).await.map(drop)
    }

    /// Removes a sandbox and its containers. Succeeds if it does not exist.
    pub async fn remove_sandbox(&mut self, sandbox: &str) -> Result<()> {
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        with_timeout("RemovePodSandbox", sandbox, TIMEOUT, self.runtime.remove_pod_sandbox(request)).await.map(drop)
    }

    /// Lists the ids of all sandboxes, running or not.
    pub async fn sandboxes(&mut self) -> Result<Vec<String>> {
        let call = self.runtime.list_pod_sandbox(api::ListPodSandboxRequest { filter: None });
        let response = with_timeout("ListPodSandbox", "all", TIMEOUT, call).await?;
        Ok(response.items.into_iter().map(|sandbox| sandbox.id).collect())
    }
}

fn image(reference: &str) -> api::ImageSpec {
    api::ImageSpec { image: reference.to_owned(), ..Default::default() }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn sandbox_config(spec: &SandboxSpec) -> api::PodSandboxConfig {
    let network = if spec.host_network { api::NamespaceMode::Node } else { api::NamespaceMode::Pod };
    let namespaces = api::NamespaceOption {
        network: network.into(),
        pid: api::NamespaceMode::Container.into(),
        ipc: api::NamespaceMode::Pod.into(),
        ..Default::default()
    };
    let security = api::LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    api::PodSandboxConfig {
        metadata: Some(api::PodSandboxMetadata {
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            attempt: 0,
        }),
        // A sandbox without its own network namespace cannot have its own host name.
        hostname: if spec.host_network { String::new() } else { spec.name.clone() },
        log_directory: text(&spec.log_directory),
        labels: spec.labels.clone(),
        linux: Some(api::LinuxPodSandboxConfig {
            cgroup_parent: spec.cgroup_parent.clone(),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config(spec: &ContainerSpec) -> api::ContainerConfig {
    let mount = |mount: &MountSpec| api::Mount {
        container_path: text(&mount.container),
        host_path: text(&mount.host),
        readonly: mount.read_only,
        ..Default::default()
    };
    let env = |(key, value): &(String, String)| api::KeyValue { key: key.clone(), value: value.clone() };
    api::ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: spec.name.clone(), attempt: 0 }),
        image: Some(image(&spec.image)),
        command: spec.command.clone().unwrap_or_default(),
        args: spec.args.clone(),
        envs: spec.env.iter().map(env).collect(),
        mounts: spec.mounts.iter().map(mount).collect(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        log_path: spec.log_path.clone(),
        linux: Some(api::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

/// The fields used from the verbose part of containerd's response.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerboseImage {
    image_spec: ImageConfig,
}

#[derive(serde::Deserialize)]
struct ImageConfig {
    rootfs: RootFs,
}

#[derive(serde::Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

fn image_info(image: &api::Image, info: &HashMap<String, String>) -> std::result::Result<ImageInfo, ResponseError> {
    let verbose = info.get("info").ok_or(ResponseError::NoVerbosePart)?;
    let verbose: VerboseImage = serde_json::from_str(verbose)?;
    let diff_ids = verbose.image_spec.rootfs.diff_ids.iter().map(|text| text.parse::<Digest>());
    let diff_ids = diff_ids.collect::<std::result::Result<Vec<_>, _>>()?;
    let manifest = image.repo_digests.first().and_then(|text| text.rsplit_once('@'));
    Ok(ImageInfo {
        id: image.id.parse()?,
        manifest: manifest.map(|(_, text)| text.parse()).transpose()?,
        chain_id: ChainId::from_diff_ids(&diff_ids).ok_or(ResponseError::NoLayers)?,
        diff_ids,
    })
}

/// Awaits a call for at most `timeout`, and adds the call and its object to an error.
async fn with_timeout<T>(
    call: &'static str,
    subject: &str,
    timeout: Duration,
    response: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    let subject = || subject.chars().take(300).collect();
    match tokio::time::timeout(timeout, response).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) if status.code() == Code::DeadlineExceeded => {
            Err(CriError::Timeout { call, subject: subject(), timeout })
        }
        Ok(Err(status)) => Err(CriError::Failed { call, subject: subject(), status: Box::new(status) }),
        Err(_) => Err(CriError::Timeout { call, subject: subject(), timeout }),
    }
}

/// A string that no other caller on this machine gets.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}-{:x}", now.as_nanos(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn containerds_verbose_response_gives_the_chain_id() {
        let [a, b] = [b"a", b"b"].map(|bytes| Digest::sha256(bytes));
        let image = api::Image {
            id: Digest::sha256(b"config").to_string(),
            repo_digests: vec![format!("127.0.0.1:5000/x@{}", Digest::sha256(b"manifest"))],
            ..Default::default()
        };
        let verbose =
            format!(r#"{{"chainID":"x","imageSpec":{{"rootfs":{{"type":"layers","diff_ids":["{a}","{b}"]}}}}}}"#);
        let info = image_info(&image, &[("info".to_owned(), verbose)].into()).unwrap();
        assert_eq!(info.chain_id, ChainId::from_diff_ids(&[a, b]).unwrap());
        assert_eq!(info.manifest, Some(Digest::sha256(b"manifest")));
        assert!(image_info(&image, &HashMap::new()).is_err());
        let empty = r#"{"imageSpec":{"rootfs":{"diff_ids":[]}}}"#.to_owned();
        let error = image_info(&image, &[("info".to_owned(), empty)].into()).unwrap_err();
        assert!(matches!(error, ResponseError::NoLayers), "{error:?}");
    }

    #[tokio::test]
    async fn the_error_for_a_missing_runtime_names_socket_and_cause() {
        let directory = tempfile::tempdir().unwrap();
        let error = Runtime::connect(&directory.path().join("none.sock")).await.unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(text.contains("none.sock") && text.contains("No such file"), "{text}");
    }
}
