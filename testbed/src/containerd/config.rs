//! containerd's configuration files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ContainerdSpec;

/// Path of the configuration.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("config.toml")
}

/// containerd's socket.
pub(super) fn socket(directory: &Path) -> PathBuf {
    directory.join("containerd.sock")
}

/// Writes all configuration files.
pub(super) fn write(directory: &Path, spec: &ContainerdSpec) -> Result<()> {
    let path = path(directory);
    fs::create_dir_all(directory.join("cni"))?;
    let runc = if limits_can_be_set() { PathBuf::from("runc") } else { write_runc_without_limits(directory)? };
    fs::write(&path, text(directory, spec, &runc)).with_context(|| format!("cannot write {}", path.display()))?;
    for registry in &spec.registries {
        let folder = directory.join("certs.d").join(registry);
        fs::create_dir_all(&folder)?;
        let at = spec.registry_link.map_or_else(|| registry.clone(), |link| link.to_string());
        let hosts =
            format!("server = \"http://{at}\"\n[host.\"http://{at}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        fs::write(folder.join("hosts.toml"), hosts)?;
    }
    Ok(())
}

/// False if the cgroups are of version 2 but the controllers belong to version 1; see [`crate::namespace::see_cgroups_of`].
fn limits_can_be_set() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").map_or(true, |controllers| controllers.contains("cpu"))
}

/// CRI always requests CPU shares.
fn write_runc_without_limits(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("runc");
    let script = r#"#!/bin/sh
for word; do
    [ "$before" = --bundle ] && sed -i -E 's/,"(memory|cpu|pids|unified)":\{[^{}]*\}//g' "$word/config.json"
    before=$word
done
exec runc "$@"
"#;
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn text(directory: &Path, spec: &ContainerdSpec, runc: &Path) -> String {
    let quoted = |path: PathBuf| format!("{:?}", path.to_string_lossy());
    let below = |name: &str| quoted(directory.join(name));
    let snapshotter = if spec.default_snapshotter.is_empty() { "overlayfs" } else { &spec.default_snapshotter };
    let proxy = spec.snapshotter.as_ref().map_or_else(String::new, |(name, socket)| {
        format!("[proxy_plugins.{name:?}]\n  type = \"snapshot\"\n  address = {}\n", quoted(socket.clone()))
    });
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE no process can lower its score, and runc fails.
    // disable_apparmor: profiles cannot be loaded everywhere.
    // disable_snapshot_annotations: false makes CRI pass the digests of layers to snapshotters.
    // conf_dir of cni: empty, so that the host's networks are not used; pods use the host's network namespace.
    format!(
        r#"version = 2
root = {root}
state = {state}

[grpc]
  address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {sandbox:?}
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = {snapshotter:?}
    disable_snapshot_annotations = false
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = {runc}

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = {cni}

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {certs}

[proxy_plugins]
{proxy}"#,
        runc = quoted(runc.to_owned()),
        root = below("root"),
        state = below("state"),
        socket = quoted(socket(directory)),
        sandbox = spec.sandbox_image,
        cni = below("cni"),
        certs = below("certs.d"),
    )
}
