//! Every way to use a file is recorded, with what is known of it.

use std::fs;

use anyhow::{Context, Result, ensure};
use bundles::phase::Phase;
use bundles::trace::{End, FileUse, Trace, Use};
use tracer_ebpf::Options;

use crate::site::{Site, paths, run, write};

fn file<'a>(trace: &'a Trace, path: &str) -> Result<&'a FileUse> {
    let found = trace.files.iter().find(|file| file.path.as_bytes() == path.as_bytes());
    found.with_context(|| format!("{path} is not among {:?}", paths(&trace.files)))
}

#[test]
fn a_script_called_by_a_relative_name_is_executed_not_opened() -> Result<()> {
    let site = Site::new(|root| write(root, &[("app/run.sh", "#!/bin/bash\n. /etc/one\n"), ("etc/one", ":\n")]))?;
    let trace = site.record_command(&["/bin/bash", "-c", "cd /app && exec ./run.sh"])?;
    ensure!(file(&trace, "/app/run.sh")?.how == Use::Exec && file(&trace, "/etc/one")?.how == Use::Open);
    ensure!(file(&trace, "/app/run.sh")?.at_us <= file(&trace, "/etc/one")?.at_us);
    Ok(())
}

#[test]
fn every_way_to_open_is_recorded_with_its_flags() -> Result<()> {
    let names = ["open", "openat2", "open32", "handle", "creat", "o_path", "uring"];
    let site = Site::new(|root| names.iter().try_for_each(|name| write(root, &[(&format!("etc/{name}"), "x")])))?;
    let uses: Vec<_> = names.iter().map(|name| format!("{name}:/etc/{name}")).collect();
    let mut argv = vec!["/bin/uses"];
    argv.extend(uses.iter().map(String::as_str));
    argv.push("unlinked:/tmp/gone");
    let trace = site.record_command(&argv)?;
    ensure!(trace.is_complete(), "{:?}", trace.faults());
    let opened: Vec<_> = trace.files.iter().filter(|file| file.how == Use::Open).collect();
    let found: Vec<_> = opened.iter().map(|file| file.path.to_string()).collect();
    let expected = ["/etc/open", "/etc/openat2", "/etc/open32", "/etc/handle", "/etc/creat", "/etc/uring", "/tmp/gone"];
    assert_eq!(found, expected);
    // Where opens are seen by the function that makes them, the kernel has dropped some flags by then, and has put one
    // where it belongs to the descriptor.
    let dropped = match trace.recorder.contains("vfs_open") {
        true => nix::libc::O_CREAT | nix::libc::O_TRUNC | nix::libc::O_EXCL | nix::libc::O_CLOEXEC,
        false => 0,
    };
    // It is the kernel that adds this for 64-bit programs.
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
fn a_file_that_was_handed_in_is_recorded_when_it_is_read() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/handed-in", "x")]))?;
    let recorded = site.record(Options::default())?;
    let mut command = site.command(&[], &["/bin/uses", "map:0"]);
    // Opened by this process, which is outside the cgroup.
    command.stdin(fs::File::open(site.root.join("etc/handed-in"))?);
    run(command)?;
    let trace = recorded.stop(End::Exited(0))?;
    assert_eq!(paths(&trace.files), ["/etc/handed-in", "/usr/bin/uses"]);
    // Before the container began, this process opened it: as far as anybody can tell, for the container.
    assert_eq!(trace.phases.phase_at(trace.files[0].at_us), Phase::SetUp);
    Ok(())
}

#[test]
fn a_process_is_known_by_its_name_and_its_parent() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/one", "1"), ("etc/two", "2")]))?;
    let trace = site.record_command(&["/bin/bash", "-c", "read x < /etc/one; /bin/cat /etc/two; true"])?;
    let (shell, cat) = (&file(&trace, "/etc/one")?.process, &file(&trace, "/etc/two")?.process);
    assert_eq!((shell.name.as_str(), cat.name.as_str()), ("bash", "cat"));
    ensure!(shell.pid != 0 && cat.parent == shell.pid && cat.pid != shell.pid, "{shell:?} {cat:?}");
    Ok(())
}

#[test]
fn what_the_container_wrote_is_marked() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/appended", "12"), ("etc/read", "1"), ("etc/moved", "1")]))?;
    let script = "echo x > /tmp/made; read x < /tmp/made; read x < /etc/read; /bin/uses append:/etc/appended; \
                  echo y > /tmp/y; while read x; do :; done < /tmp/y";
    let trace = site.record_command(&["/bin/bash", "-c", script])?;
    for (path, written, image) in
        [("/tmp/made", true, false), ("/tmp/y", true, false), ("/etc/read", false, true), ("/etc/appended", true, true)]
    {
        let file = file(&trace, path)?;
        assert_eq!(file.written, written, "{file:?}");
        // What was there before it was changed has been copied up, and so read.
        let read = file.ranges.as_ref().is_some_and(|ranges| !ranges.is_empty());
        assert_eq!(read, image, "{file:?}");
    }
    Ok(())
}
