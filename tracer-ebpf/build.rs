//! Compiles the kernel part (`bpf/`) with clang, or with the compiler named by the environment variable `CLANG`.

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
        other => return fail(&format!("the recorder supports x86_64 and aarch64, not {other}")),
    };
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let object = Path::new(&variable("OUT_DIR")).join("recorder.bpf.o");
    let compiled = Command::new(&clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"])
        // Debian and Ubuntu keep asm/types.h in an architecture-specific directory.
        .args(["-idirafter", headers])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .args(["-c", SOURCE, "-o"])
        .arg(&object)
        .output();
    match compiled {
        Err(error) => fail(&format!("cannot run {clang} ({error}): install clang, or set CLANG")),
        Ok(output) if !output.status.success() => {
            let messages = String::from_utf8_lossy(&output.stderr);
            let headers_missing = messages.contains("file not found");
            let hint =
                if headers_missing { " (headers are missing: install libbpf-dev and linux-libc-dev)" } else { "" };
            fail(&format!("{clang} cannot compile {SOURCE}{hint}:\n{messages}"));
        }
        Ok(_) => {}
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
}

fn fail(message: &str) {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
}
