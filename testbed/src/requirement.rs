//! The one rule for a test whose machine lacks something: in CI it fails, elsewhere it is reported as not run.
//!
//! Root, FUSE, containerd and the like are no such case: a privileged test without them fails everywhere. A requirement is
//! something that a well-equipped machine may lack, such as a cgroup version.
//!
//! | Environment | Effect of a missing requirement |
//! |--|--|
//! | `TESTBED_WITHOUT` names it (a list, separated by spaces) | the test is not run |
//! | `CI` is set | the test fails |
//! | otherwise | the test is not run |
//!
//! A test that is not run passes, says so on its output and in the file `$TESTBED_NOT_RUN`, which `make test` shows at its end.

use std::fmt;
use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result, bail};

/// Something that tests need and a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Cgroup hierarchies of version 1.
    CgroupV1,
    /// Debian on x86_64, whose kernels are booted in a virtual machine.
    DebianKernels,
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CgroupV1 => "cgroup-v1",
            Self::DebianKernels => "debian-kernels",
        })
    }
}

impl Requirement {
    /// Ends the calling test because this requirement is missing; `why` says what exactly. Returns `Ok` where the rule of
    /// this module permits that, and the test must return at once.
    pub fn missing(self, why: &str) -> Result<()> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        self.check(why, environment("CI").is_some(), environment("TESTBED_WITHOUT").as_deref().unwrap_or_default())?;
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let line = format!("not run: {test} needs {self}: {why}\n");
        print!("{line}");
        if let Some(path) = environment("TESTBED_NOT_RUN") {
            let file = File::options().create(true).append(true).open(&path);
            file.and_then(|mut file| file.write_all(line.as_bytes()))
                .with_context(|| format!("cannot write {path}"))?;
        }
        Ok(())
    }

    fn check(self, why: &str, is_ci: bool, excused: &str) -> Result<()> {
        if is_ci && !excused.split_whitespace().any(|name| name == self.to_string()) {
            bail!("this machine lacks {self}: {why}; a machine of the CI may lack it only if TESTBED_WITHOUT names it");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_ci_a_missing_requirement_must_be_excused_by_name() {
        for (is_ci, excused, is_ok) in [
            (false, "", true),
            (true, "", false),
            (true, "debian-kernels", false),
            (true, "debian-kernels cgroup-v1", true),
            (false, "cgroup-v1", true),
        ] {
            assert_eq!(Requirement::CgroupV1.check("none", is_ci, excused).is_ok(), is_ok, "{is_ci} {excused:?}");
        }
    }
}
