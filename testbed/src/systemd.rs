//! A systemd unit of `deploy/`, with its sandboxing applied by other tools: no systemd runs where the tests run.

#![allow(clippy::unwrap_used, reason = "called by tests only, which fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Like `ProtectSystem=strict`: a mount namespace in which everything is read-only except one directory, the first argument. The
/// other arguments are the command.
pub const PROTECTED: [&str; 5] =
    ["unshare", "--mount", "sh", "-c", "mount --bind $0 $0 && mount -o remount,bind,ro / && exec \"$@\""];
/// Writes the system calls of a command to a file, the next argument.
pub const TRACED: [&str; 8] = ["strace", "-f", "-qq", "-e", "signal=none", "-s", "0", "-o"];

/// For [`Unit::rights`] of a traced command: it ends with the tracer, even if that is killed.
pub const ENDS_WITH_TRACER: &str = "--pdeathsig=KILL";

/// A unit file's text.
#[derive(Debug, Clone, Copy)]
pub struct Unit(pub &'static str);

impl Unit {
    /// All values of the setting `name`.
    pub fn settings(self, name: &str) -> Vec<&'static str> {
        self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
    }

    /// A `setpriv` command line that runs a command with the unit's capabilities only.
    pub fn rights(self) -> Vec<String> {
        assert_eq!(self.settings("NoNewPrivileges"), ["yes"]);
        let [left] = self.settings("CapabilityBoundingSet")[..] else { panic!("{self:?}") };
        let left = left.split_whitespace().map(|name| name.replace("CAP_", "+").to_lowercase());
        let left = left.fold("-all".to_owned(), |all, name| format!("{all},{name}"));
        ["setpriv", "--inh-caps=-all", "--no-new-privs", &format!("--bounding-set={left}")].map(str::to_owned).into()
    }

    /// The system calls of `program`, from the output of [`TRACED`], that the unit's filter does not allow.
    pub fn refused(self, trace: &str, program: &str) -> Vec<String> {
        let made = made(trace, program);
        assert!(made.len() > 30, "{made:?}");
        made.difference(&self.allowed()).cloned().collect()
    }

    fn allowed(self) -> BTreeSet<String> {
        let groups = groups();
        let mut allowed = BTreeSet::new();
        for filter in self.settings("SystemCallFilter") {
            for group in filter.trim_start_matches('~').split(' ') {
                let calls = calls_of(group, &groups);
                match filter.starts_with('~') {
                    true => allowed.retain(|call| !calls.contains(call)),
                    false => allowed.extend(calls),
                }
            }
        }
        allowed
    }
}

/// systemd's groups of system calls: `@name` with its calls and other groups.
fn groups() -> BTreeMap<String, Vec<String>> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output().unwrap();
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut open = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.trim() {
            "" => {}
            comment if comment.starts_with('#') => {}
            name if line.starts_with('@') => open = name.to_owned(),
            entry => groups.entry(open.clone()).or_default().push(entry.to_owned()),
        }
    }
    groups
}

fn calls_of(group: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let entries = groups.get(group).unwrap_or_else(|| panic!("systemd knows no {group}"));
    let expanded = entries.iter().flat_map(|entry| match entry.starts_with('@') {
        true => calls_of(entry, groups),
        false => BTreeSet::from([entry.clone()]),
    });
    expanded.collect()
}

/// The system calls after `program` itself was executed.
fn made(trace: &str, program: &str) -> BTreeSet<String> {
    let begun = format!("{program}\", [");
    let from = trace.rfind(&begun).map_or(0, |exec| exec + trace[exec..].find('\n').unwrap());
    let call = |line: &str| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let name = line.strip_prefix("<... ").unwrap_or(line).split(['(', ' ']).next()?;
        (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then(|| name.to_owned())
    };
    trace[from..].lines().filter_map(call).collect()
}
