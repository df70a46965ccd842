//! A kernel may accept a program and yet not attach it: here because as many as it can have are at that function already, on
//! arm64's 6.1 because none can be.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use aya::programs::FExit;
use aya::{Btf, Ebpf};

use crate::site::{Site, compiled, write};
use crate::whose::opened;

/// More than a function can have: the kernel's `BPF_MAX_TRAMP_LINKS` is 38.
const TOO_MANY: usize = 64;

/// The program that crowds.
pub(crate) fn program() -> Result<PathBuf> {
    // Debian and Ubuntu keep asm/types.h in the directory of the architecture.
    let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let arguments = ["-O2", "-g", "-target", "bpf", "-idirafter", &headers, "-c"];
    compiled("crowd.bpf.c", include_bytes!("../fixture/crowd.bpf.c"), &arguments)
}

/// As many as the kernel attaches; none where it allows no such programs.
fn crowd() -> Result<Vec<Ebpf>> {
    let btf = Btf::from_sys_fs()?;
    let mut crowd = Vec::new();
    for _ in 0..TOO_MANY {
        let mut one = Ebpf::load_file(program()?)?;
        let Some(program) = one.program_mut("crowd") else { break };
        let program: &mut FExit = program.try_into()?;
        if program.load("vfs_open", &btf).and_then(|()| program.attach()).is_err() {
            break;
        }
        crowd.push(one);
    }
    ensure!(crowd.len() < TOO_MANY, "the kernel takes more than it used to");
    println!("{} programs are at vfs_open", crowd.len());
    Ok(crowd)
}

#[test]
fn where_a_program_cannot_be_attached_the_next_best_is_used() -> Result<()> {
    let crowd = crowd()?;
    let site = Site::new(|root| write(root, &[("etc/file", "x")]))?;
    let trace = site.record_command(&["/bin/uses", "open:/etc/file"])?;
    ensure!(trace.recorder.contains("sys_exit") && !trace.recorder.contains("vfs_open"), "{}", trace.recorder);
    assert_eq!(opened(&trace), ["/etc/file"]);
    drop(crowd);
    Ok(())
}
