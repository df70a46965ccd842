//! What goes into a trace beside the files used, and which recorder backend writes it.

use bundles::image::ImageId;
use tracer_ebpf::cgroup::Version;
use tracer_ebpf::cri::Container;
use tracer_ebpf::{Backend, Options, Subject};

#[derive(clap::Args)]
#[group(id = "options", multiple = true)]
#[command(next_help_heading = "Trace and recorder")]
pub(crate) struct OptionArgs {
    /// Record also lookups of paths that do not exist, or directories that are listed
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    also: Vec<Also>,
    /// Keep the container's program and arguments in the trace; they may contain secrets
    #[arg(long)]
    keep_command: bool,
    /// Profile of the workload, e.g. `reconstruction`
    ///
    /// The bundle of an image has a section for each profile that its traces name.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    profile: String,
    /// Recorder backend
    #[arg(long, value_enum, default_value_t)]
    backend: BackendName,
    /// Version of the cgroups that containers are identified by
    #[arg(long, value_enum, default_value_t)]
    cgroups: CgroupsName,
    /// Size of the buffer between kernel and recorder, a power of two, at least 4096
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().ring_bytes, value_parser = ring_bytes)]
    ring_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Also {
    /// Paths that were looked up and do not exist
    Absent,
    /// Directories that were listed
    Directories,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum BackendName {
    /// BPF, or fanotify if the kernel refuses BPF
    #[default]
    Auto,
    /// BPF programs; needs BTF and Linux 5.12
    Bpf,
    /// fanotify; sees less, and needs overlayfs
    Fanotify,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum CgroupsName {
    /// Version 2 if it is mounted, otherwise version 1
    #[default]
    Auto,
    /// Version 1
    V1,
    /// Version 2
    V2,
}

impl OptionArgs {
    pub(crate) fn backend(&self) -> Backend {
        match self.backend {
            BackendName::Auto => Backend::Auto,
            BackendName::Bpf => Backend::Bpf,
            BackendName::Fanotify => Backend::Fanotify,
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            ring_bytes: self.ring_bytes,
            absent_paths: self.also.contains(&Also::Absent),
            listed_directories: self.also.contains(&Also::Directories),
            cgroups: match self.cgroups {
                CgroupsName::Auto => None,
                CgroupsName::V1 => Some(Version::V1),
                CgroupsName::V2 => Some(Version::V2),
            },
            ..Options::default()
        }
    }

    pub(crate) fn subject(&self, image: ImageId, container: &Container) -> Subject {
        let command = if self.keep_command { container.command.clone() } else { Vec::new() };
        Subject { image, command, profile: self.profile.clone() }
    }
}

fn ring_bytes(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(bytes) if bytes.is_power_of_two() && bytes >= 4096 => Ok(bytes),
        _ => Err("expected a power of two, at least 4096".into()),
    }
}
