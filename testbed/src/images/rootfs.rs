//! A Debian or Ubuntu root file system, created by debootstrap and apt from the mirror of this machine's apt.
//!
//! Commands that mount run in their own mount and PID namespaces and end with the thread that started them, so nothing stays
//! mounted or running.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{run, run_command};

/// The distribution to install, and its mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Distribution {
    pub(super) suite: String,
    host_suite: String,
    components: &'static str,
}

impl Distribution {
    /// Debian 12 on Debian; on Ubuntu the host's own release, because its mirrors carry no Debian.
    pub(super) fn of_this_machine() -> Result<Self> {
        let os_release = fs::read_to_string("/etc/os-release").context("cannot find out which distribution this is")?;
        let value = |key: &str| {
            let mut lines = os_release.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            lines.next().map(|value| value.trim_matches('"')).unwrap_or_default()
        };
        let (suite, components) = match value("ID") {
            "debian" => ("bookworm", "main"),
            "ubuntu" => (value("VERSION_CODENAME"), "main,universe"),
            other => bail!("the images are made with debootstrap on Debian or Ubuntu, this is {other:?}"),
        };
        Ok(Self { suite: suite.to_owned(), host_suite: value("VERSION_CODENAME").to_owned(), components })
    }

    /// The mirror that apt itself is configured with.
    fn mirror(&self) -> Result<String> {
        let format = "$(SITE) $(RELEASE) $(COMPONENT)";
        let indexes = run("apt-get", &["indextargets", "--format", format, "Created-By: Packages"])?;
        mirror_for(&indexes, &self.suite, &self.host_suite)
    }

    /// Creates a minimal root file system in `root`. Packages are kept in `debs`.
    pub(super) fn bootstrap(&self, root: &Path, debs: &Path) -> Result<()> {
        let mirror = self.mirror()?;
        // apt in the chroot needs certificates for HTTPS, which a minimal system does not have.
        let include = if mirror.starts_with("https:") { "--include=ca-certificates" } else { "--verbose" };
        let script = r#"
            debootstrap --variant=minbase --components="$components" --cache-dir="$debs" "$include" \
                "$suite" "$root" "$mirror"
            # What debootstrap copied from this machine.
            for file in hostname resolv.conf machine-id; do rm -f "$root/etc/$file"; : >"$root/etc/$file"; done"#;
        let variables =
            [("components", self.components), ("include", include), ("suite", &self.suite), ("mirror", &mirror)];
        in_namespace(script, root, debs, &variables)
    }
}

/// Installs `packages` into `root`, without recommended packages.
pub(super) fn install(root: &Path, debs: &Path, packages: &[&str]) -> Result<()> {
    let script = r#"
        archives="$root/var/cache/apt/archives"
        mkdir -p "$archives"
        find "$debs" -name '*.deb' -exec cp -t "$archives" {} +
        cat /etc/resolv.conf >"$root/etc/resolv.conf"
        mount -t proc proc "$root/proc"
        chroot "$root" apt-get --quiet update
        chroot "$root" apt-get --quiet --yes --no-install-recommends install $packages
        find "$archives" -maxdepth 1 -name '*.deb' -exec cp -n -t "$debs" {} +
        : >"$root/etc/resolv.conf""#;
    in_namespace(script, root, debs, &[("packages", &packages.join(" "))])
}

/// Runs a shell script in a chroot of `root`.
pub(super) fn shell(root: &Path, script: &str) -> Result<()> {
    let outside = r#"
        mount -t proc proc "$root/proc"
        chroot "$root" sh -ec "$script""#;
    in_namespace(outside, root, root, &[("script", script)])
}

/// Runs a shell script with the variables `root`, `debs` and `variables`, in its own namespaces.
fn in_namespace(script: &str, root: &Path, debs: &Path, variables: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(debs)?;
    // debootstrap and apt in the chroot do not see the proxy of the host's apt configuration.
    let preamble = r#"
        set -eu
        for scheme in http https; do
            eval "$(apt-config shell proxy "Acquire::$scheme::Proxy")"
            if [ -n "${proxy:-}" ] && [ "$proxy" != DIRECT ]; then export "${scheme}_proxy=$proxy"; fi
            unset proxy
        done"#;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]);
    command.args(["--propagation", "private", "sh", "-c"]).arg(format!("{preamble}\n{script}"));
    command.env("root", root).env("debs", debs).envs(variables.iter().copied());
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    run_command(&mut command).map(drop)
}

/// Picks the mirror for `suite` from lines of site, release and component; otherwise that of the host's own release, which
/// usually has the other releases, too.
fn mirror_for(indexes: &str, suite: &str, host_suite: &str) -> Result<String> {
    let main: Vec<(&str, &str)> = indexes
        .lines()
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [site, release, "main"] if site.starts_with("http") => Some((*site, *release)),
            _ => None,
        })
        .collect();
    [suite, host_suite]
        .into_iter()
        .find_map(|release_name| main.iter().find(|(_, release)| *release == release_name))
        .map(|(site, _)| (*site).to_owned())
        .with_context(|| {
            format!("apt knows no HTTP mirror with component main of {suite} or {host_suite}; run apt-get update")
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_mirror_is_apts_own() {
        let indexes = "https://packages.example nodistro main\nhttp://deb.example/debian bookworm-updates main\n\
                       http://deb.example/debian bookworm contrib\nhttp://deb.example/debian bookworm main\n\
                       cdrom:[x] bookworm main\nhttp://security.example bookworm-security main\n";
        assert_eq!(mirror_for(indexes, "bookworm", "bookworm").unwrap(), "http://deb.example/debian");
        let newer = "http://deb.example/debian trixie main\n";
        assert_eq!(mirror_for(newer, "bookworm", "trixie").unwrap(), "http://deb.example/debian");
        assert!(mirror_for("cdrom:[x] bookworm main\n", "bookworm", "bookworm").is_err());
    }
}
