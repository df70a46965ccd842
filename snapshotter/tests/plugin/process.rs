//! A running snapshotter with the capabilities that its unit leaves to it, and a client.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use containerd_snapshots::api::snapshots::v1::snapshots_client::SnapshotsClient;
use containerd_snapshots::api::snapshots::v1::*;
use containerd_snapshots::api::types::Mount;
use containerd_snapshots::tonic::Code;
use containerd_snapshots::tonic::transport::{Channel, Endpoint};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;

use testbed::systemd::Unit;

pub(crate) const UNIT: Unit = Unit(include_str!("../../../deploy/systemd/cvmfs-prefetch-snapshotter.service"));
const TIMEOUT: Duration = Duration::from_secs(60);

/// A snapshotter with its own directory. Dropping it kills the process.
pub(crate) struct Snapshotter {
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Snapshotter {
    /// Starts a snapshotter with a repository `<name>.example.org` for each name, mounted (or not) at the directory `<name>`.
    pub(crate) fn start(repositories: &[&str], lookup_timeout_ms: u64) -> Self {
        Self::start_with(repositories, lookup_timeout_ms, "")
    }

    /// The same, with more lines of configuration.
    pub(crate) fn start_with(repositories: &[&str], lookup_timeout_ms: u64, more: &str) -> Self {
        let mut this = Self::configured(repositories, lookup_timeout_ms, more);
        this.run();
        this
    }

    /// The same, but not started.
    pub(crate) fn configured(repositories: &[&str], lookup_timeout_ms: u64, more: &str) -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut config = format!(
            "socket = {:?}\nroot = {:?}\nlookup_timeout = \"{lookup_timeout_ms}ms\"\n{more}\n",
            at("s.sock"),
            at("root")
        );
        for name in repositories {
            config += &format!("[[repositories]]\nname = \"{name}.example.org\"\nmount = {:?}\n", at(name));
        }
        fs::write(at("config.toml"), config).unwrap();
        Self { directory, child: None }
    }

    /// Starts the program as the last argument of `command`.
    pub(crate) fn run_by(&mut self, command: Command) {
        let child = self.spawn_by(command);
        self.wait_until_serving(child);
    }

    fn run(&mut self) {
        let child = self.spawn();
        self.wait_until_serving(child);
    }

    fn wait_until_serving(&mut self, mut child: Child) {
        let end = Instant::now() + TIMEOUT;
        while std::os::unix::net::UnixStream::connect(self.path("s.sock")).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "{}", self.log());
            assert!(Instant::now() < end, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
    }

    fn spawn(&self) -> Child {
        let rights = UNIT.rights();
        let mut command = Command::new(&rights[0]);
        command.args(&rights[1..]);
        self.spawn_by(command)
    }

    fn spawn_by(&self, mut command: Command) -> Child {
        command.arg(env!("CARGO_BIN_EXE_cvmfs-prefetch-snapshotter"));
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.arg("--config").arg(self.path("config.toml")).env("RUST_LOG", "info,snapshotter=debug");
        command.stdin(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// A path in the snapshotter's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// The process id of what was started.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Stops it and returns the counters that it then logs, by name (without `_total`) and value of the label.
    pub(crate) fn stop(&mut self) -> impl Fn(&str, &str) -> u64 + use<> {
        self.stop_process(self.pid())
    }

    /// The same, where the program runs as `pid`.
    pub(crate) fn stop_process(&mut self, pid: u32) -> impl Fn(&str, &str) -> u64 + use<> {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success(), "{}", self.log());
        let log = self.log();
        move |name, label| {
            let (_, counters) = log.rsplit_once(" stopped counters=").unwrap();
            let mut words = counters.split_whitespace().filter_map(|word| word.rsplit_once('='));
            let is_counter =
                |key: &str| key.starts_with(&format!("{name}_total{{")) && key.ends_with(&format!("=\"{label}\"}}"));
            let (_, value) =
                words.find(|(key, _)| is_counter(key)).unwrap_or_else(|| panic!("{name} {label}: {counters}"));
            value.parse().unwrap()
        }
    }

    /// Kills and restarts it.
    pub(crate) fn crash_and_restart(&mut self) {
        self.crash();
        self.run();
    }

    /// Kills it.
    pub(crate) fn crash(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it and kills it after a while, whether it serves by then or not.
    pub(crate) fn crash_at_start(&mut self, after: Duration) {
        let mut child = self.spawn();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again after [`Snapshotter::crash`].
    pub(crate) fn restart(&mut self) {
        self.run();
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Client {
        let socket = self.path("s.sock");
        let connect = tower::service_fn(move |_| UnixStream::connect(socket.clone()));
        let channel =
            Endpoint::from_static("http://snapshotter.localhost").connect_with_connector(connect).await.unwrap();
        Client(SnapshotsClient::new(channel))
    }

    /// The names below a directory of its root, sorted.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path("root").join(directory)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Calls of containerd, with errors reduced to their codes.
#[derive(Clone)]
pub(crate) struct Client(SnapshotsClient<Channel>);

/// A map of labels.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Client {
    pub(crate) async fn prepare(&mut self, key: &str, parent: &str, with: &[(&str, &str)]) -> Result<Vec<Mount>, Code> {
        let request = PrepareSnapshotRequest {
            snapshotter: "s".to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels(with),
        };
        self.0.prepare(request).await.map(|answer| answer.into_inner().mounts).map_err(|status| status.code())
    }

    pub(crate) async fn view(&mut self, key: &str, parent: &str) -> Result<Vec<Mount>, Code> {
        self.view_with(key, parent, &[]).await
    }

    pub(crate) async fn view_with(
        &mut self,
        key: &str,
        parent: &str,
        with: &[(&str, &str)],
    ) -> Result<Vec<Mount>, Code> {
        let request = ViewSnapshotRequest {
            snapshotter: "s".to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels(with),
        };
        self.0.view(request).await.map(|answer| answer.into_inner().mounts).map_err(|status| status.code())
    }

    pub(crate) async fn mounts(&mut self, key: &str) -> Result<Vec<Mount>, Code> {
        let request = MountsRequest { snapshotter: "s".to_owned(), key: key.to_owned() };
        self.0.mounts(request).await.map(|answer| answer.into_inner().mounts).map_err(|status| status.code())
    }

    pub(crate) async fn commit(&mut self, key: &str, name: &str, with: &[(&str, &str)]) -> Result<(), Code> {
        let request = CommitSnapshotRequest {
            snapshotter: "s".to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: labels(with),
        };
        self.0.commit(request).await.map(drop).map_err(|status| status.code())
    }

    pub(crate) async fn remove(&mut self, key: &str) -> Result<(), Code> {
        let request = RemoveSnapshotRequest { snapshotter: "s".to_owned(), key: key.to_owned() };
        self.0.remove(request).await.map(drop).map_err(|status| status.code())
    }

    pub(crate) async fn stat(&mut self, key: &str) -> Result<Info, Code> {
        let request = StatSnapshotRequest { snapshotter: "s".to_owned(), key: key.to_owned() };
        self.0.stat(request).await.map(|answer| answer.into_inner().info.unwrap()).map_err(|status| status.code())
    }

    pub(crate) async fn usage(&mut self, key: &str) -> Result<(i64, i64), Code> {
        let request = UsageRequest { snapshotter: "s".to_owned(), key: key.to_owned() };
        let usage = self.0.usage(request).await.map_err(|status| status.code())?.into_inner();
        Ok((usage.inodes, usage.size))
    }

    /// Without fields, everything that can be updated is updated.
    pub(crate) async fn update(&mut self, info: Info, fields: &[&str]) -> Result<Info, Code> {
        let mut request = UpdateSnapshotRequest {
            snapshotter: "s".to_owned(),
            info: Some(info),
            update_mask: Some(Default::default()),
        };
        // containerd always sends a mask. Its type is not exported, so it is filled in place.
        request.update_mask.iter_mut().for_each(|mask| mask.paths = fields.iter().map(|&field| field.into()).collect());
        self.0.update(request).await.map(|answer| answer.into_inner().info.unwrap()).map_err(|status| status.code())
    }

    pub(crate) async fn cleanup(&mut self) -> Result<(), Code> {
        let request = CleanupRequest { snapshotter: "s".to_owned() };
        self.0.cleanup(request).await.map(drop).map_err(|status| status.code())
    }

    pub(crate) async fn list(&mut self, filters: &[&str]) -> Result<Vec<Info>, Code> {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let request = ListSnapshotsRequest { snapshotter: "s".to_owned(), filters };
        let mut stream = self.0.list(request).await.map_err(|status| status.code())?.into_inner();
        let mut infos = Vec::new();
        while let Some(answer) = stream.message().await.map_err(|status| status.code())? {
            infos.extend(answer.info);
        }
        Ok(infos)
    }
}
