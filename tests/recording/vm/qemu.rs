//! Starts the emulator and waits for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Kernel options that switch off hardening, which would take a quarter of the time.
const NO_HARDENING: &str = "mitigations=off init_on_alloc=0 apparmor=0";

/// Size of the disk in bytes. The file is sparse, so it takes only what the guest writes.
const DISK_BYTES: u64 = 2 << 30;

/// A running machine. It is killed when this is dropped, and when the thread that started it ends.
pub(super) struct Qemu {
    child: Child,
    directory: PathBuf,
}

impl Qemu {
    /// `directory` is for this module's files, and must outlive the machine.
    pub(super) fn start(image: &Path, initramfs: &Path, directory: &Path) -> Result<Self> {
        let ports = ["console", "report"].map(|name| directory.join(name));
        for port in &ports {
            // So that they exist even if the emulator fails before it creates them.
            File::create(port)?;
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        command.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
        // A panic reboots, and a reboot ends the emulator.
        command.args(["-append", &format!("console=ttyS0 quiet panic=-1 {NO_HARDENING}"), "-no-reboot"]);
        for port in &ports {
            command.arg("-serial").arg(format!("file:{}", port.display()));
        }
        command.args(["-fsdev", "local,id=root,path=/,security_model=passthrough,readonly=on,multidevs=remap"]);
        command.args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"]);
        let disk = disk(directory)?;
        command.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,file={}", disk.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(directory.join("errors"))?);
        let child = command.spawn().context("cannot run setpriv (package util-linux)")?;
        Ok(Self { child, directory: directory.into() })
    }

    /// Waits until the machine has powered off.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let errors = fs::read_to_string(self.directory.join("errors"))?;
                    bail!("qemu-system-x86_64 (package qemu-system-x86) ended with {status}: {errors}");
                }
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
        bail!("the virtual machine did not power off within {timeout:?}")
    }

    /// The file of the guest's ttyS0.
    pub(super) fn console(&self) -> PathBuf {
        self.directory.join("console")
    }

    /// The file of the guest's ttyS1.
    pub(super) fn report(&self) -> PathBuf {
        self.directory.join("report")
    }
}

/// Creates an empty ext4 file system in a sparse file.
fn disk(directory: &Path) -> Result<PathBuf> {
    let disk = directory.join("disk");
    File::create(&disk)?.set_len(DISK_BYTES)?;
    let output =
        Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk).output().context("mkfs.ext4 (package e2fsprogs)")?;
    ensure!(output.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr));
    Ok(disk)
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail if the emulator has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
