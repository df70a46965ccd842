//! The connection to containerd.

use anyhow::Result;
use tracer_ebpf::cri::Runtime;

#[derive(clap::Args)]
#[command(next_help_heading = "Container runtime")]
pub(crate) struct RuntimeArgs {
    /// Socket of containerd
    #[arg(
        long,
        value_name = "SOCKET",
        env = "CONTAINER_RUNTIME_ENDPOINT",
        default_value = "unix:///run/containerd/containerd.sock"
    )]
    cri_socket: String,
}

impl RuntimeArgs {
    pub(crate) async fn connect(&self) -> Result<Runtime> {
        let socket = self.cri_socket.strip_prefix("unix://").unwrap_or(&self.cri_socket);
        Ok(Runtime::connect(socket.as_ref()).await?)
    }
}
