//! The recorder sees exactly the files that strace sees, or that the programs are known to use.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, ensure};
use bundles::phase::Phase;
use bundles::trace::{End, Trace, Use};
use nix::mount::{MsFlags, mount};
use tracer_ebpf::Options;

use crate::strace;
use crate::test_container::{TestContainer, paths, run, write};

/// Runs `argv` under strace and records it. Returns the trace, and the files that strace saw, in order.
fn record_with_strace(container: &TestContainer, argv: &[&str]) -> Result<(Trace, Vec<String>)> {
    let prefix = container.scratch.path().join("strace");
    let wrapper = strace::command(&prefix);
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let recorded = container.record(Options::default())?;
    run(container.command(&wrapper, argv))?;
    let trace = recorded.stop(End::Exited(0))?;
    ensure!(trace.is_complete(), "{:?}", trace.faults());
    Ok((trace, strace::uses(&prefix, &container.root)?))
}

/// Compares the sets of files, except those that the program wrote. The trace may have more files in its set-up, by the
/// shell that starts the program.
fn compare(trace: &Trace, seen: &[String]) -> Result<()> {
    let written: BTreeSet<_> = trace.files.iter().filter(|file| file.written).map(|f| f.path.to_string()).collect();
    let recorded: BTreeSet<_> = trace.files.iter().map(|file| file.path.to_string()).collect();
    let seen: BTreeSet<_> = seen.iter().filter(|path| !written.contains(*path)).cloned().collect();
    let missed: Vec<_> = seen.difference(&recorded).collect();
    ensure!(missed.is_empty(), "only strace saw {missed:?}");
    let started = trace.files.iter().filter(|file| !file.written && trace.phases.phase_at(file.at_us) != Phase::SetUp);
    let extra: Vec<_> = started.filter(|file| !seen.contains(&file.path.to_string())).collect();
    ensure!(extra.is_empty(), "strace did not see {extra:?}");
    Ok(())
}

#[test]
fn a_shell_script_is_recorded_in_the_same_order() -> Result<()> {
    let container = TestContainer::new(|root| {
        write(
            root,
            &[
                ("etc/one", "1"),
                ("etc/two", "2"),
                ("etc/never", "-"),
                ("app/run.sh", "#!/bin/bash\n/bin/cat /etc/one\n"),
                ("app/shown.sh", "#!/bin/cat\n"),
                ("app/source.sh", "read line < /etc/two\n"),
            ],
        )
    })?;
    let data = container.scratch.path().join("data");
    fs::create_dir(&data)?;
    fs::write(data.join("volume"), "v")?;
    mount(Some(&data), &container.root.join("mnt"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let script = "/app/run.sh; . /app/source.sh; /bin/cat /etc/two /proc/self/status /mnt/volume /etc/one; \
                  /app/shown.sh; echo x > /tmp/new; read x < /tmp/new; [ ! -e /etc/absent ]";
    let (trace, mut seen) = record_with_strace(&container, &["/usr/bin/bash", "-c", script])?;
    ensure!(seen.contains(&"/mnt/volume".into()), "the volume was not read");
    seen.retain(|path| !path.starts_with("/mnt/"));
    let started: Vec<_> = trace.files.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(started, seen);
    // Check that strace itself saw what it should.
    for path in
        ["/usr/bin/bash", "/usr/bin/cat", "/app/run.sh", "/app/shown.sh", "/app/source.sh", "/etc/two", "/tmp/new"]
    {
        ensure!(seen.iter().any(|p| p == path), "{path} is not in {seen:?}");
    }
    ensure!(!seen.iter().any(|p| p.starts_with("/proc") || p == "/etc/never"));
    let how = |path: &str| trace.files.iter().find(|f| f.path.to_string() == path).map(|f| (f.how, f.size));
    let interpreter = &trace.files[1];
    assert_eq!(trace.files[0].how, Use::Exec);
    assert_eq!(interpreter.how, Use::Interpreter);
    ensure!(interpreter.path.name().starts_with(b"ld-"), "{interpreter:?}");
    assert_eq!(how("/app/run.sh"), Some((Use::Exec, 30)));
    assert_eq!(how("/etc/one"), Some((Use::Open, 1)));
    ensure!(trace.files.iter().all(|f| f.at_us <= trace.duration_us));
    Ok(())
}

#[test]
fn python_importing_many_modules_is_recorded_completely() -> Result<()> {
    let container = TestContainer::with_host_root()?;
    let program = "import json, decimal, http.client, sqlite3, unittest, xml.dom.minidom, email.mime.text";
    let (trace, seen) = record_with_strace(&container, &["/usr/bin/env", "python3", "-c", program])?;
    compare(&trace, &seen)?;
    ensure!(seen.iter().filter(|path| path.contains("/python3")).count() > 50, "{seen:?}");
    Ok(())
}

#[test]
fn gcc_compiling_a_file_is_recorded_completely() -> Result<()> {
    let container = TestContainer::with_host_root()?;
    fs::create_dir_all(container.root.join("tmp"))?;
    fs::write(
        container.root.join("tmp/hello.c"),
        "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n",
    )?;
    let (trace, seen) = record_with_strace(&container, &["/usr/bin/gcc", "-o", "/tmp/hello", "/tmp/hello.c"])?;
    compare(&trace, &seen)?;
    ensure!(seen.iter().any(|path| path.ends_with("/cc1")) && seen.iter().any(|path| path.ends_with("stdio.h")));
    let made = trace.files.iter().find(|file| file.path.to_string() == "/tmp/hello");
    ensure!(made.is_some_and(|file| file.written), "{made:?}");
    Ok(())
}

#[test]
fn a_program_with_fifty_children_is_recorded_completely() -> Result<()> {
    let container =
        TestContainer::new(|root| (0..50).try_for_each(|child| write(root, &[(&format!("etc/child{child}"), "x")])))?;
    let (trace, seen) = record_with_strace(&container, &["/bin/uses", "fork:50:/etc/child"])?;
    compare(&trace, &seen)?;
    let children: Vec<_> = trace.files.iter().filter(|file| file.path.to_string().starts_with("/etc/child")).collect();
    let pids: BTreeSet<_> = children.iter().map(|file| file.process.pid).collect();
    let parents: BTreeSet<_> = children.iter().map(|file| file.process.parent).collect();
    assert_eq!((children.len(), pids.len(), parents.len()), (50, 50, 1));
    Ok(())
}

#[test]
fn a_static_program_with_unusual_opens_is_recorded_completely() -> Result<()> {
    let names = ["openat2", "uring", "mapped"];
    let container =
        TestContainer::new(|root| names.iter().try_for_each(|name| write(root, &[(&format!("etc/{name}"), "x")])))?;
    let argv = ["/bin/uses", "openat2:/etc/openat2", "uring:/etc/uring", "touch:0:/etc/mapped"];
    let (trace, mut seen) = record_with_strace(&container, &argv)?;
    // strace cannot see opens through io_uring.
    ensure!(!seen.contains(&"/etc/uring".into()));
    seen.push("/etc/uring".into());
    compare(&trace, &seen)?;
    assert_eq!(paths(&trace.files), ["/usr/bin/uses", "/etc/openat2", "/etc/uring", "/etc/mapped"]);
    Ok(())
}
