//! The guest's first file system: a cpio archive ("newc", see the kernel's `buffer-format.rst`) with busybox, the
//! modules, `init.sh` and the script that runs the program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Statically linked, because the guest has no libraries at first (package busybox-static).
const BUSYBOX: &str = "/bin/busybox";
const DIRECTORY: u32 = 0o40755;
const PROGRAM: u32 = 0o100755;

/// The program that the guest runs.
pub(super) struct Program<'a> {
    pub(super) command: &'a [&'a str],
    pub(super) environment: &'a [(&'a str, &'a str)],
    pub(super) directory: &'a Path,
}

impl Program<'_> {
    /// A script that runs the program in the guest's final root, as process 1.
    fn script(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let defaults = [("PATH", path.as_str()), ("HOME", "/root"), ("TMPDIR", "/run/disk")];
        let mut words = vec!["env".to_owned(), "-i".to_owned()];
        words.extend(defaults.iter().chain(self.environment).map(|(name, value)| quoted(&format!("{name}={value}"))));
        words.extend(self.command.iter().map(|word| quoted(word)));
        let [directory, run] = [quoted(&self.directory.to_string_lossy()), words.join(" ")];
        format!(
            "cd {directory} && {run} </dev/null\n\
             status=$?\n\
             {{ uname -r; echo $status; }} >/dev/ttyS1\n\
             {BUSYBOX} poweroff -f\n"
        )
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Builds the archive. The guest loads the modules in the given order.
pub(super) fn pack(modules: &[PathBuf], program: &Program<'_>) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "proc", "sys", "modules", "host", "memory", "root"] {
        archive.add(directory, DIRECTORY, b"");
    }
    archive.add("init", PROGRAM, include_bytes!("init.sh"));
    archive.add("command.sh", PROGRAM, program.script().as_bytes());
    archive.add("bin/busybox", PROGRAM, &read(Path::new(BUSYBOX))?);
    for (index, module) in modules.iter().enumerate() {
        let name = module.file_name().context("a module has a name")?.to_string_lossy();
        archive.add(&format!("modules/{index:02}-{name}"), PROGRAM, &read(module)?);
    }
    Ok(archive.finish())
}

#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let size = |len: usize| u32::try_from(len).expect("an initramfs is smaller than 4 GiB");
        let [inode, uid, gid, mtime, device] = [0; 5];
        let fields = [
            inode,
            mode,
            uid,
            gid,
            1, // links
            mtime,
            size(content.len()),
            device,
            device,
            device,
            device,
            size(name.len() + 1),
            0, // checksum
        ];
        self.0.extend(b"070701");
        fields.iter().for_each(|field| self.0.extend(format!("{field:08x}").bytes()));
        self.0.extend(name.bytes().chain([0]));
        self.pad();
        self.0.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.0
    }
}
