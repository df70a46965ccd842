//! Every way to use a file is recorded, with its flags, process and phase.

use std::fs;

use anyhow::{Context, Result, ensure};
use bundles::phase::Phase;
use bundles::trace::{End, FileUse, Trace, Use};
use tracer_ebpf::Options;

use crate::test_container::{TestContainer, paths, run, write};

fn file<'a>(trace: &'a Trace, path: &str) -> Result<&'a FileUse> {
    let found = trace.files.iter().find(|file| file.path.as_bytes() == path.as_bytes());
    found.with_context(|| format!("{path} is not among {:?}", paths(&trace.files)))
}

#[test]
fn a_script_run_by_a_relative_path_counts_as_executed() -> Result<()> {
    let container =
        TestContainer::new(|root| write(root, &[("app/run.sh", "#!/bin/bash\n. /etc/one\n"), ("etc/one", ":\n")]))?;
    let trace = container.record_command(&["/bin/bash", "-c", "cd /app && exec ./run.sh"])?;
    ensure!(file(&trace, "/app/run.sh")?.how == Use::Exec && file(&trace, "/etc/one")?.how == Use::Open);
    ensure!(file(&trace, "/app/run.sh")?.at_us <= file(&trace, "/etc/one")?.at_us);
    Ok(())
}

#[test]
fn every_way_to_open_a_file_is_recorded_with_its_flags() -> Result<()> {
    let names = ["open", "openat2", "open32", "handle", "creat", "o_path", "uring"];
    let container =
        TestContainer::new(|root| names.iter().try_for_each(|name| write(root, &[(&format!("etc/{name}"), "x")])))?;
    let uses: Vec<_> = names.iter().map(|name| format!("{name}:/etc/{name}")).collect();
    let mut argv = vec!["/bin/uses"];
    argv.extend(uses.iter().map(String::as_str));
    argv.push("unlinked:/tmp/gone");
    let trace = container.record_command(&argv)?;
    ensure!(trace.is_complete(), "{:?}", trace.faults());
    let opened: Vec<_> = trace.files.iter().filter(|file| file.how == Use::Open).collect();
    let found: Vec<_> = opened.iter().map(|file| file.path.to_string()).collect();
    let expected = ["/etc/open", "/etc/openat2", "/etc/open32", "/etc/handle", "/etc/creat", "/etc/uring", "/tmp/gone"];
    assert_eq!(found, expected);
    // The hook on vfs_open runs when the kernel has already dropped some flags (and has moved O_CLOEXEC to the descriptor).
    let dropped = if trace.recorder.contains("vfs_open") {
        nix::libc::O_CREAT | nix::libc::O_TRUNC | nix::libc::O_EXCL | nix::libc::O_CLOEXEC
    } else {
        0
    };
    // The kernel adds this flag for 64-bit programs.
    const O_LARGEFILE: u32 = 0o100_000;
    let flags = |path: &str| file(&trace, path).map(|file| file.open_flags & !O_LARGEFILE);
    let creat = nix::libc::O_CREAT | nix::libc::O_WRONLY | nix::libc::O_TRUNC;
    let gone = nix::libc::O_CREAT | nix::libc::O_RDWR | nix::libc::O_EXCL;
    for (path, expected) in
        [("/etc/open", 0), ("/etc/openat2", nix::libc::O_CLOEXEC), ("/etc/creat", creat), ("/tmp/gone", gone)]
    {
        assert_eq!(flags(path)?, (expected & !dropped) as u32, "{path}");
    }
    for file in &trace.files {
        let written = ["/etc/creat", "/tmp/gone"].contains(&file.path.to_string().as_str());
        assert_eq!(file.written, written, "{file:?}");
    }
    Ok(())
}

#[test]
fn a_file_passed_in_by_another_process_is_recorded_when_it_is_read() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/handed-in", "x")]))?;
    let recorded = container.record(Options::default())?;
    let mut command = container.command(&[], &["/bin/uses", "map:0"]);
    // Opened by this process, which is outside the cgroup.
    command.stdin(fs::File::open(container.root.join("etc/handed-in"))?);
    run(command)?;
    let trace = recorded.stop(End::Exited(0))?;
    assert_eq!(paths(&trace.files), ["/etc/handed-in", "/usr/bin/uses"]);
    // This process opened the file before the container started, so it looks like a part of the set-up.
    assert_eq!(trace.phases.phase_at(trace.files[0].at_us), Phase::SetUp);
    Ok(())
}

#[test]
fn a_process_is_recorded_with_its_name_and_parent() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/one", "1"), ("etc/two", "2")]))?;
    let trace = container.record_command(&["/bin/bash", "-c", "read x < /etc/one; /bin/cat /etc/two; true"])?;
    let shell = &file(&trace, "/etc/one")?.process;
    let cat = &file(&trace, "/etc/two")?.process;
    assert_eq!((shell.name.as_str(), cat.name.as_str()), ("bash", "cat"));
    ensure!(shell.pid != 0 && cat.parent == shell.pid && cat.pid != shell.pid, "{shell:?} {cat:?}");
    Ok(())
}

#[test]
fn files_written_by_the_container_are_marked() -> Result<()> {
    let container =
        TestContainer::new(|root| write(root, &[("etc/appended", "12"), ("etc/read", "1"), ("etc/moved", "1")]))?;
    let script = "echo x > /tmp/made; read x < /tmp/made; read x < /etc/read; /bin/uses append:/etc/appended; \
                  echo y > /tmp/y; while read x; do :; done < /tmp/y";
    let trace = container.record_command(&["/bin/bash", "-c", script])?;
    for (path, written, image) in
        [("/tmp/made", true, false), ("/tmp/y", true, false), ("/etc/read", false, true), ("/etc/appended", true, true)]
    {
        let file = file(&trace, path)?;
        assert_eq!(file.written, written, "{file:?}");
        // overlayfs reads the old content of a changed file when it copies the file up.
        let read = file.ranges.as_ref().is_some_and(|ranges| !ranges.is_empty());
        assert_eq!(read, image, "{file:?}");
    }
    Ok(())
}
