//! What goes into a trace beyond the files used, and by which means; common to `record` and `watch`.

use bundles::image::ImageId;
use tracer_ebpf::cgroup::Version;
use tracer_ebpf::cri::Container;
use tracer_ebpf::{Backend, Options, Subject};

#[derive(clap::Args)]
#[group(id = "what", multiple = true)]
pub(crate) struct Args {
    /// Record as well: paths that were looked for and do not exist, directories that were listed
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    also: Vec<Also>,
    /// Keep the container's program and arguments in the trace, which may hold secrets
    #[arg(long)]
    keep_command: bool,
    /// What kind of work this shows, e.g. `reconstruction`; traces of the same make a part of the image's bundle
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    profile: String,
    /// By which means the kernel is asked; auto: BPF, or fanotify, which sees less, where BPF is refused
    #[arg(long, value_enum, default_value_t)]
    backend: BackendName,
    /// By which cgroups containers are told apart; auto: version 2 where it is mounted, else version 1
    #[arg(long, value_enum, default_value_t)]
    cgroups: CgroupsName,
    /// Size of the buffer between kernel and recorder: a power of two, and at least 4096
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().ring_bytes, value_parser = ring_bytes)]
    ring_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Also {
    Absent,
    Directories,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum BackendName {
    #[default]
    Auto,
    Bpf,
    Fanotify,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum CgroupsName {
    #[default]
    Auto,
    V1,
    V2,
}

impl Args {
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
            absent: self.also.contains(&Also::Absent),
            directories: self.also.contains(&Also::Directories),
            cgroups: match self.cgroups {
                CgroupsName::Auto => None,
                CgroupsName::V1 => Some(Version::One),
                CgroupsName::V2 => Some(Version::Two),
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
