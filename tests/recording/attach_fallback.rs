//! A kernel may load a program but fail to attach it: here because the function has the maximum of programs already, on
//! arm64's 6.1 because it cannot attach any. The recorder then uses the next best set of programs.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use aya::programs::FExit;
use aya::{Btf, Ebpf};

use crate::attribution::opened;
use crate::test_container::{TestContainer, compiled, write};

/// More programs than the kernel attaches to one function: `BPF_MAX_TRAMP_LINKS` is 38.
const TOO_MANY: usize = 64;

/// Compiles the program that fills the function.
pub(crate) fn filler_program() -> Result<PathBuf> {
    // Debian and Ubuntu keep asm/types.h in an architecture-specific directory.
    let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let arguments = ["-O2", "-g", "-target", "bpf", "-idirafter", &headers, "-c"];
    compiled("filler.bpf.c", include_bytes!("fixture/filler.bpf.c"), &arguments)
}

/// Attaches as many programs to `vfs_open` as the kernel accepts; none where it allows no trampolines.
fn fill_vfs_open() -> Result<Vec<Ebpf>> {
    let btf = Btf::from_sys_fs()?;
    let mut attached = Vec::new();
    for _ in 0..TOO_MANY {
        let mut ebpf = Ebpf::load_file(filler_program()?)?;
        let Some(program) = ebpf.program_mut("filler") else { break };
        let program: &mut FExit = program.try_into()?;
        if program.load("vfs_open", &btf).and_then(|()| program.attach()).is_err() {
            break;
        }
        attached.push(ebpf);
    }
    ensure!(attached.len() < TOO_MANY, "the kernel accepts more programs than it used to; raise TOO_MANY");
    println!("{} programs are attached to vfs_open", attached.len());
    Ok(attached)
}

#[test]
fn the_next_best_set_is_used_if_a_program_cannot_be_attached() -> Result<()> {
    let fillers = fill_vfs_open()?;
    let container = TestContainer::new(|root| write(root, &[("etc/file", "x")]))?;
    let trace = container.record_command(&["/bin/uses", "open:/etc/file"])?;
    ensure!(trace.recorder.contains("sys_exit") && !trace.recorder.contains("vfs_open"), "{}", trace.recorder);
    assert_eq!(opened(&trace), ["/etc/file"]);
    drop(fillers);
    Ok(())
}
