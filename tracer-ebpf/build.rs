//! Compiles the kernel part (`bpf/`) with clang. `CLANG` names another clang.

use std::env;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "bpf/recorder.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let (arch, headers) = match variable("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => ("x86", "/usr/include/x86_64-linux-gnu"),
        "aarch64" => ("arm64", "/usr/include/aarch64-linux-gnu"),
        other => return fail(&format!("the recorder knows the registers of x86_64 and aarch64, not of {other}")),
    };
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let object = Path::new(&variable("OUT_DIR")).join("recorder.bpf.o");
    let compiled = Command::new(&clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"])
        // Debian and Ubuntu keep asm/types.h in the directory of the architecture.
        .args(["-idirafter", headers])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .args(["-c", SOURCE, "-o"])
        .arg(&object)
        .output();
    match compiled {
        Err(error) => fail(&format!("{clang} cannot be run ({error}): install clang, or set CLANG")),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let hint = match said.contains("file not found") {
                true => " (headers are missing: install libbpf-dev and linux-libc-dev)",
                false => "",
            };
            fail(&format!("{clang} cannot compile {SOURCE}{hint}:\n{said}"));
        }
        Ok(_) => {}
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
}

fn fail(why: &str) {
    for line in why.lines() {
        println!("cargo::error={line}");
    }
}
