//! Runs strace as an independent observer, and parses its output.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The strace command for [`uses`]. It writes to `<prefix>.<pid>`.
pub(crate) fn command(prefix: &Path) -> Vec<String> {
    let calls = "trace=open,openat,openat2,creat,open_by_handle_at,execve,execveat,chroot";
    ["strace", "-ff", "-y", "-ttt", "-e", calls, "-e", "signal=none", "-s", "4096", "-o"]
        .iter()
        .map(ToString::to_string)
        .chain([prefix.display().to_string()])
        .collect()
}

/// The regular files below `root` that were opened or executed, in order of first use. strace does not see that the kernel
/// opens the interpreters of scripts and ELF files, so these are read from the files.
pub(crate) fn uses(prefix: &Path, root: &Path) -> Result<Vec<String>> {
    let mut calls = Vec::new();
    for entry in fs::read_dir(prefix.parent().context("a prefix has a directory")?)? {
        let path = entry?.path();
        if path.to_string_lossy().starts_with(&*prefix.to_string_lossy()) {
            for line in fs::read_to_string(&path)?.lines() {
                let (time, call) = line.split_once(' ').context("a time")?;
                calls.push((time.parse::<f64>()?, call.to_owned()));
            }
        }
    }
    calls.sort_by(|a, b| a.0.total_cmp(&b.0));

    let mut used = Vec::new();
    let mut inside = false;
    for (_, call) in &calls {
        let Some((call, result)) = call.rsplit_once(" = ") else { continue };
        // Before the chroot, executed programs are the host's.
        inside |= call.starts_with("chroot(") && result == "0";
        if call.starts_with("exec") && result == "0" {
            let named = call.split('"').nth(1).context("a program")?;
            if inside {
                executed(root, named, &mut used)?;
            }
        } else if let Some((_, file)) = result.split_once('<').filter(|_| inside) {
            used.push(PathBuf::from(file.trim_end_matches('>')));
        }
    }
    let mut seen = HashSet::new();
    used.retain(|path| path.starts_with(root) && path.is_file() && seen.insert(path.clone()));
    used.iter().map(|path| Ok(format!("/{}", path.strip_prefix(root)?.display()))).collect()
}

fn executed(root: &Path, named: &str, used: &mut Vec<PathBuf>) -> Result<()> {
    let path = resolve(root, named)?;
    let bytes = fs::read(&path)?;
    used.push(path);
    if let Some(script) = bytes.strip_prefix(b"#!") {
        let line = String::from_utf8(script.split(|b| *b == b'\n').next().unwrap_or_default().to_vec())?;
        return executed(root, line.split_whitespace().next().context("an interpreter")?, used);
    }
    if let Some(interpreter) = elf_interpreter(&bytes) {
        used.push(resolve(root, &interpreter)?);
    }
    Ok(())
}

/// Resolves a path in the container. An absolute symbolic link, resolved outside the container, leads out of the root; it is
/// mapped back, because the roots of the tests have the same directories as the host.
fn resolve(root: &Path, path: &str) -> Result<PathBuf> {
    let path = root.join(path.trim_start_matches('/'));
    let found = fs::canonicalize(&path).with_context(|| path.display().to_string())?;
    Ok(if found.starts_with(root) { found } else { root.join(found.strip_prefix("/")?) })
}

/// PT_INTERP of a 64-bit little-endian ELF file.
fn elf_interpreter(bytes: &[u8]) -> Option<String> {
    let number = |at: usize, len: usize| {
        bytes.get(at..at + len).map(|b| b.iter().rev().fold(0usize, |n, b| (n << 8) | usize::from(*b)))
    };
    let table = number(32, 8)?;
    let entry_size = number(54, 2)?;
    let count = number(56, 2)?;
    let header = (0..count).map(|i| table + i * entry_size).find(|at| number(*at, 4) == Some(3))?;
    let offset = number(header + 8, 8)?;
    let len = number(header + 32, 8)?;
    String::from_utf8(bytes.get(offset..offset + len - 1)?.to_vec()).ok()
}
