//! A thin client of the Container Runtime Interface, the API by which a kubelet runs pods.
//!
//! [`Runtime`] has a method for each call that is needed here; each has a deadline and says in its error what it was
//! about. [`pod`] strings them together to one pod with one container and always cleans up. [`log`] reads what a
//! container wrote.

pub mod log;
pub mod pod;
mod running;

pub use running::{Container, PodInfo};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bundles::image::{ChainId, Digest};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as api;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long a call may take. A runtime that is asked for more at once than it can do takes its time.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long a pull may take.
const PULL_DEADLINE: Duration = Duration::from_secs(1800);
/// How often the end of a container is looked for.
const POLL: Duration = Duration::from_millis(5);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// Nobody listens on the socket.
    #[error("cannot reach the container runtime on {socket}: {why}; is it running, and is this its CRI socket?")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The runtime said no.
    #[error("{call} of {subject} failed: {} ({:?})", status.message(), status.code())]
    Refused {
        /// The call.
        call: &'static str,
        /// What it was about.
        subject: String,
        /// The runtime's answer.
        status: Box<Status>,
    },
    /// The deadline passed.
    #[error("{call} of {subject} did not end within {after:?}")]
    Late {
        /// The call.
        call: &'static str,
        /// What it was about.
        subject: String,
        /// The deadline.
        after: Duration,
    },
    /// The runtime's answer made no sense.
    #[error("{call} of {subject}: the answer {problem}")]
    Answer {
        /// The call.
        call: &'static str,
        /// What it was about.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
}

type Result<T> = std::result::Result<T, CriError>;

/// What the runtime knows of an image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Digest of its configuration: the runtime's name for it.
    pub id: Digest,
    /// Digest of its manifest, if it was pulled from a registry.
    pub manifest: Option<Digest>,
    /// Digests of its uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Chain ID of the topmost layer.
    pub chain_id: ChainId,
}

/// A pod's sandbox to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Name of the pod. Together with the next two it must be unique.
    pub name: String,
    /// Namespace of Kubernetes, not of Linux.
    pub namespace: String,
    /// Unique id of the pod.
    pub uid: String,
    /// The cgroup below which the runtime puts those of the sandbox and its containers; the runtime's default if empty.
    pub cgroup_parent: String,
    /// The directory of the containers' logs.
    pub log_directory: PathBuf,
    /// Uses the host's network, else what CNI is configured for.
    pub host_network: bool,
    /// Labels.
    pub labels: HashMap<String, String>,
}

/// A container to be made in a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Reference or id of an image that was pulled.
    pub image: String,
    /// Unique in the sandbox.
    pub name: String,
    /// In place of the image's entry point.
    pub command: Option<Vec<String>>,
    /// In place of the image's arguments; the image's if empty.
    pub args: Vec<String>,
    /// Added to the image's environment.
    pub env: Vec<(String, String)>,
    /// Log file below the sandbox's log directory.
    pub log_path: String,
    /// Directories or files of the host.
    pub mounts: Vec<MountSpec>,
    /// Labels.
    pub labels: HashMap<String, String>,
    /// Annotations.
    pub annotations: HashMap<String, String>,
}

/// A directory or file of the host to be seen in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// On the host.
    pub host: PathBuf,
    /// In the container.
    pub container: PathBuf,
    /// Cannot be written.
    pub read_only: bool,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code of its first process.
    pub code: i32,
    /// The runtime's word for the reason, such as `Completed` or `OOMKilled`.
    pub reason: String,
    /// From the start of its first process to its end, by the runtime's clock.
    pub run: Duration,
}

/// The name of a sandbox, with the configuration that every call about its containers must repeat.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The runtime's name for it.
    pub id: String,
    config: api::PodSandboxConfig,
}

/// A connection to a container runtime. Clones share it.
#[derive(Debug, Clone)]
pub struct Runtime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Runtime {
    /// Connects to the CRI socket of a runtime.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is only what HTTP/2 wants to see as authority.
        let endpoint = Endpoint::from_static("http://cri.localhost").connect_timeout(DEADLINE);
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| CriError::Connect { socket: socket.to_owned(), why: innermost(&error) })?;
        Ok(Self { runtime: RuntimeServiceClient::new(channel.clone()), images: ImageServiceClient::new(channel) })
    }

    /// Whether the runtime is ready to run containers.
    pub async fn is_ready(&mut self) -> Result<bool> {
        let call = self.runtime.status(api::StatusRequest { verbose: false });
        let status = bounded("Status", "the runtime", DEADLINE, call).await?.status.unwrap_or_default();
        Ok(status.conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status))
    }

    /// Pulls an image; the runtime's name for it.
    pub async fn pull(&mut self, reference: &str) -> Result<String> {
        let request = api::PullImageRequest { image: Some(image(reference)), ..Default::default() };
        Ok(bounded("PullImage", reference, PULL_DEADLINE, self.images.pull_image(request)).await?.image_ref)
    }

    /// What the runtime knows of an image; `None` if it does not have it.
    pub async fn image_status(&mut self, reference: &str) -> Result<Option<ImageInfo>> {
        const CALL: &str = "ImageStatus";
        let request = api::ImageStatusRequest { image: Some(image(reference)), verbose: true };
        let answer = bounded(CALL, reference, DEADLINE, self.images.image_status(request)).await?;
        let Some(image) = answer.image else { return Ok(None) };
        image_info(&image, &answer.info).map(Some).map_err(|problem| CriError::Answer {
            call: CALL,
            subject: reference.to_owned(),
            problem,
        })
    }

    /// Removes an image. One that is not there is no error.
    pub async fn remove_image(&mut self, reference: &str) -> Result<()> {
        let request = api::RemoveImageRequest { image: Some(image(reference)) };
        bounded("RemoveImage", reference, DEADLINE, self.images.remove_image(request)).await.map(drop)
    }

    /// Makes and starts a sandbox.
    pub async fn run_sandbox(&mut self, spec: &SandboxSpec) -> Result<Sandbox> {
        let config = sandbox_config(spec);
        let request = api::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let call = self.runtime.run_pod_sandbox(request);
        let id = bounded("RunPodSandbox", &spec.name, DEADLINE, call).await?.pod_sandbox_id;
        Ok(Sandbox { id, config })
    }

    /// Makes a container; its id.
    pub async fn create_container(&mut self, sandbox: &Sandbox, spec: &ContainerSpec) -> Result<String> {
        let request = api::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(container_config(spec)),
            sandbox_config: Some(sandbox.config.clone()),
        };
        let call = self.runtime.create_container(request);
        Ok(bounded("CreateContainer", &spec.name, DEADLINE, call).await?.container_id)
    }

    /// Starts a container.
    pub async fn start(&mut self, container: &str) -> Result<()> {
        let request = api::StartContainerRequest { container_id: container.to_owned() };
        bounded("StartContainer", container, DEADLINE, self.runtime.start_container(request)).await.map(drop)
    }

    /// Waits for a container's end.
    pub async fn wait_exit(&mut self, container: &str, limit: Duration) -> Result<Exit> {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let request = api::ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
            let call = self.runtime.container_status(request);
            let status = bounded("ContainerStatus", container, DEADLINE, call).await?.status.unwrap_or_default();
            if status.state() == api::ContainerState::ContainerExited {
                let run = status.finished_at.saturating_sub(status.started_at);
                let run = Duration::from_nanos(u64::try_from(run).unwrap_or_default());
                return Ok(Exit { code: status.exit_code, reason: status.reason, run });
            }
            if tokio::time::Instant::now() >= end {
                return Err(CriError::Late { call: "the run", subject: container.to_owned(), after: limit });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops a container, by force after `grace`.
    pub async fn stop(&mut self, container: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = api::StopContainerRequest { container_id: container.to_owned(), timeout };
        let call = self.runtime.stop_container(request);
        bounded("StopContainer", container, DEADLINE.saturating_add(grace), call).await.map(drop)
    }

    /// Removes a container, running or not. One that is not there is no error.
    pub async fn remove_container(&mut self, container: &str) -> Result<()> {
        let request = api::RemoveContainerRequest { container_id: container.to_owned() };
        bounded("RemoveContainer", container, DEADLINE, self.runtime.remove_container(request)).await.map(drop)
    }

    /// Stops a sandbox and all in it.
    pub async fn stop_sandbox(&mut self, sandbox: &str) -> Result<()> {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        bounded("StopPodSandbox", sandbox, DEADLINE, self.runtime.stop_pod_sandbox(request)).await.map(drop)
    }

    /// Removes a sandbox and all in it. One that is not there is no error.
    pub async fn remove_sandbox(&mut self, sandbox: &str) -> Result<()> {
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        bounded("RemovePodSandbox", sandbox, DEADLINE, self.runtime.remove_pod_sandbox(request)).await.map(drop)
    }

    /// The ids of all sandboxes, running or not.
    pub async fn sandboxes(&mut self) -> Result<Vec<String>> {
        let call = self.runtime.list_pod_sandbox(api::ListPodSandboxRequest { filter: None });
        let answer = bounded("ListPodSandbox", "all", DEADLINE, call).await?;
        Ok(answer.items.into_iter().map(|sandbox| sandbox.id).collect())
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
        // Without a network namespace of its own a sandbox cannot have a host name of its own.
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

/// The part of containerd's verbose answer that is wanted here.
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

fn image_info(image: &api::Image, info: &HashMap<String, String>) -> std::result::Result<ImageInfo, String> {
    let digest = |text: &str| text.parse::<Digest>().map_err(|error| error.to_string());
    let verbose = info.get("info").ok_or("has no verbose part")?;
    let verbose: VerboseImage =
        serde_json::from_str(verbose).map_err(|error| format!("is not containerd's: {error}"))?;
    let diff_ids: Vec<_> =
        verbose.image_spec.rootfs.diff_ids.iter().map(|text| digest(text)).collect::<std::result::Result<_, _>>()?;
    let manifest = image.repo_digests.first().and_then(|text| text.rsplit_once('@'));
    Ok(ImageInfo {
        id: digest(&image.id)?,
        manifest: manifest.map(|(_, text)| digest(text)).transpose()?,
        chain_id: ChainId::from_diff_ids(&diff_ids).ok_or("tells no layers")?,
        diff_ids,
    })
}

async fn bounded<T>(
    call: &'static str,
    subject: &str,
    deadline: Duration,
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    let subject = || subject.chars().take(300).collect();
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if status.code() == Code::DeadlineExceeded => {
            Err(CriError::Late { call, subject: subject(), after: deadline })
        }
        Ok(Err(status)) => Err(CriError::Refused { call, subject: subject(), status: Box::new(status) }),
        Err(_) => Err(CriError::Late { call, subject: subject(), after: deadline }),
    }
}

fn innermost(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A text that no other caller on this machine has.
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
    fn containerds_verbose_answer_gives_the_chain_id() {
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
        assert!(image_info(&image, &[("info".to_owned(), empty)].into()).unwrap_err().contains("no layers"));
    }

    #[tokio::test]
    async fn a_missing_runtime_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = Runtime::connect(&directory.path().join("none.sock")).await.unwrap_err().to_string();
        assert!(error.contains("none.sock") && error.contains("No such file"), "{error}");
    }
}
