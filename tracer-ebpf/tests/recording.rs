//! The recorder against real processes, and against strace. Root is needed; without it these tests fail.

mod site;
#[path = "site/strace.rs"]
mod strace;
mod vm;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::path::RootPath;
use bundles::trace::{End, Use};
use nix::mount::{MsFlags, mount};
use site::{Site, paths, run};
use tracer::{Error, Options, Recorder, Target};

const FILES: usize = 20_000;

fn write(root: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

#[test]
fn what_is_recorded_is_what_strace_sees_in_the_same_order() -> Result<()> {
    let site = Site::new(|root| {
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
    let data = site.scratch.path().join("data");
    fs::create_dir(&data)?;
    fs::write(data.join("volume"), "v")?;
    mount(Some(&data), &site.root.join("mnt"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;

    let script = "/app/run.sh; . /app/source.sh; /bin/cat /etc/two /proc/self/status /mnt/volume /etc/one; \
                  /app/shown.sh; echo x > /tmp/new; read x < /tmp/new; [ ! -e /etc/absent ]";
    let prefix = site.scratch.path().join("strace");
    let before = strace::command(&prefix);
    let before: Vec<_> = before.iter().map(String::as_str).collect();
    let recording = site.record(Options::default())?;
    ensure!(!recording.has_begun()?);
    run(site.command(&before, &["/usr/bin/bash", "-c", script]))?;
    ensure!(recording.has_begun()?);
    let recorded = recording.stop(End::Exited(0))?;

    let mut expected = strace::uses(&prefix, &site.root)?;
    ensure!(expected.contains(&"/mnt/volume".into()), "the volume was not read");
    expected.retain(|path| !path.starts_with("/mnt/"));
    assert_eq!(paths(&recorded.files), expected);
    assert_eq!((recorded.lost, recorded.unresolved), (0, 0));
    // strace's view itself holds what it must.
    for path in
        ["/usr/bin/bash", "/usr/bin/cat", "/app/run.sh", "/app/shown.sh", "/app/source.sh", "/etc/two", "/tmp/new"]
    {
        ensure!(expected.iter().any(|p| p == path), "{path} is not in {expected:?}");
    }
    ensure!(!expected.iter().any(|p| p.starts_with("/proc") || p == "/etc/never"));

    let how = |path: &str| recorded.files.iter().find(|f| f.path.to_string() == path).map(|f| (f.how, f.size));
    let interpreter = &recorded.files[1];
    assert_eq!(recorded.files[0].how, Use::Exec);
    assert_eq!(interpreter.how, Use::Interpreter);
    ensure!(interpreter.path.name().starts_with(b"ld-"), "{interpreter:?}");
    assert_eq!(how("/app/run.sh"), Some((Use::Exec, 30)));
    assert_eq!(how("/etc/one"), Some((Use::Open, 1)));
    ensure!(recorded.files.is_sorted_by_key(|f| f.at_us));
    ensure!(recorded.files.iter().all(|f| u128::from(f.at_us) <= recorded.duration.as_micros()));
    Ok(())
}

#[test]
fn a_script_called_by_a_relative_name_is_executed_not_opened() -> Result<()> {
    let site = Site::new(|root| write(root, &[("app/run.sh", "#!/bin/bash\n. /etc/one\n"), ("etc/one", "")]))?;
    let recorded = site.record_command(&["/bin/bash", "-c", "cd /app && exec ./run.sh"])?;
    let last: Vec<_> = recorded.files.iter().rev().take(2).map(|f| (f.path.to_string(), f.how)).collect();
    assert_eq!(last, [("/etc/one".into(), Use::Open), ("/app/run.sh".into(), Use::Exec)]);
    Ok(())
}

#[test]
fn every_way_to_open_is_recorded_with_its_flags() -> Result<()> {
    let names = ["open", "openat2", "open32", "handle", "creat", "o_path"];
    let site = Site::new(|root| names.iter().try_for_each(|name| write(root, &[(&format!("etc/{name}"), "x")])))?;
    let uses: Vec<_> = names.iter().map(|name| format!("{name}:/etc/{name}")).collect();
    let mut argv = vec!["/bin/uses"];
    argv.extend(uses.iter().map(String::as_str));
    argv.push("unlinked:/tmp/gone");
    let recorded = site.record_command(&argv)?;
    let found: Vec<_> = recorded.files.iter().map(|f| (f.path.to_string(), f.how, f.open_flags)).collect();
    let flags = [
        nix::libc::O_RDONLY,
        nix::libc::O_CLOEXEC,
        0,
        0,
        nix::libc::O_CREAT | nix::libc::O_WRONLY | nix::libc::O_TRUNC,
    ];
    let opened = names.iter().zip(flags).map(|(name, flags)| (format!("/etc/{name}"), Use::Open, flags as u32));
    let tmp = ("/tmp/gone".into(), Use::Open, (nix::libc::O_CREAT | nix::libc::O_RDWR | nix::libc::O_EXCL) as u32);
    let expected: Vec<_> = [("/usr/bin/uses".into(), Use::Exec, 0)].into_iter().chain(opened).chain([tmp]).collect();
    assert_eq!(found, expected);
    assert_eq!((recorded.lost, recorded.unresolved), (0, 0));
    Ok(())
}

#[test]
fn a_file_mapped_without_an_open_is_recorded() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/handed-in", "x")]))?;
    let recording = site.record(Options::default())?;
    let mut command = site.command(&[], &["/bin/uses", "map:0"]);
    // Opened by this process, which is outside the cgroup.
    command.stdin(fs::File::open(site.root.join("etc/handed-in"))?);
    run(command)?;
    let recorded = recording.stop(End::Exited(0))?;
    let found: Vec<_> = recorded.files.iter().map(|f| (f.path.to_string(), f.how)).collect();
    assert_eq!(found, [("/usr/bin/uses".into(), Use::Exec), ("/etc/handed-in".into(), Use::Map)]);
    Ok(())
}

#[test]
fn neighbours_leave_nothing_and_cgroups_below_count() -> Result<()> {
    let site = Site::new(|root| write(root, &[("etc/mine", "m"), ("etc/other", "o"), ("etc/below", "b")]))?;
    let name = site.scratch.path().file_name().context("a name")?;
    let other = tracer::cgroup::Cgroup::create(&Path::new("/").join(name).with_extension("other"))?;
    let below = tracer::cgroup::Cgroup::create(&Path::new("/").join(name).join("below"))?;
    let recording = site.record(Options::default())?;
    run(site.command_in(other.path(), &[], &["/bin/uses", "open:/etc/other"]))?;
    ensure!(!recording.has_begun()?, "a neighbour has begun the record");
    run(site.command(&[], &["/bin/uses", "open:/etc/mine"]))?;
    run(site.command_in(other.path(), &[], &["/bin/uses", "open:/etc/other"]))?;
    run(site.command_in(below.path(), &[], &["/bin/uses", "open:/etc/below"]))?;
    let recorded = recording.stop(End::Stopped)?;
    assert_eq!(paths(&recorded.files), ["/usr/bin/uses", "/etc/mine", "/etc/below"]);
    Ok(())
}

fn fill_many(root: &Path) -> Result<()> {
    let many = root.join("many");
    fs::create_dir(&many)?;
    (0..FILES).try_for_each(|i| Ok(fs::write(many.join(format!("file-{i:05}")), "")?))
}

#[test]
fn twenty_thousand_files_lose_nothing() -> Result<()> {
    let site = Site::new(fill_many)?;
    let recorded = site.record_command(&["/bin/uses", "all:/many", "all:/many"])?;
    assert_eq!((recorded.lost, recorded.unresolved), (0, 0));
    let found: HashSet<_> = recorded.files.iter().map(|f| f.path.clone()).collect();
    let many = (0..FILES).map(|i| RootPath::new(format!("/many/file-{i:05}")));
    let expected: HashSet<_> = many.chain([RootPath::new("/usr/bin/uses")]).collect::<Result<_, _>>()?;
    ensure!(found == expected);
    assert_eq!(recorded.files.len(), FILES + 1);
    Ok(())
}

#[test]
fn what_a_small_ring_loses_is_counted() -> Result<()> {
    let site = Site::new(fill_many)?;
    let recording = site.record(Options { ring_bytes: 4096, ..Options::default() })?;
    run(site.command(&[], &["/bin/uses", "all:/many"]))?;
    let recorded = recording.stop(End::Exited(0))?;
    ensure!(recorded.lost > 0, "nothing was lost");
    assert_eq!(recorded.files.len() + recorded.lost as usize, FILES + 1);
    Ok(())
}

#[test]
fn deep_paths_are_recorded_and_deeper_ones_counted() -> Result<()> {
    let path = |depth: usize| format!("{}file", "d/".repeat(depth - 1));
    let site = Site::new(|root| write(root, &[(&path(48), "x"), (&path(49), "x")]))?;
    let uses = [48, 49].map(|depth| format!("open:/{}", path(depth)));
    let recorded = site.record_command(&["/bin/uses", &uses[0], &uses[1], &uses[1]])?;
    assert_eq!(paths(&recorded.files), ["/usr/bin/uses".into(), format!("/{}", path(48))]);
    assert_eq!((recorded.lost, recorded.unresolved), (0, 1));
    Ok(())
}

#[test]
fn a_recording_of_nothing_is_an_error() -> Result<()> {
    let site = Site::new(|_| Ok(()))?;
    let recording = site.record(Options::default())?;
    match recording.stop(End::Stopped) {
        Err(Error::NothingRan(path)) => assert_eq!(path, site.cgroup.path()),
        other => anyhow::bail!("expected NothingRan, got {other:?}"),
    }
    let Err(error) = Recorder::load()?.follow(Target::Cgroup("/proc".into())) else {
        anyhow::bail!("a directory that is no cgroup was followed");
    };
    ensure!(error.to_string().contains("/proc"), "{error}");
    Ok(())
}

/// Run by the test below as another user; as root it loads.
#[test]
fn load_as_nobody() {
    match Recorder::load() {
        Ok(_) => println!("loaded"),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn without_rights_it_says_so() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755))?;
    let program = scratch.path().join("test");
    fs::copy(std::env::current_exe()?, &program)?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(&program)
        .args(["--exact", "load_as_nobody", "--nocapture"])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("refused: no right to") && text.contains("run as root"), "{output:?}");
    Ok(())
}

/// What does not hold on every kernel that the recorder is for, yet, and why.
const NOT_YET_ON_OLDER_KERNELS: &[(&str, &str)] = &[(
    "deep_paths_are_recorded_and_deeper_ones_counted",
    "before Linux 6.4 the upper half of what bpf_map_update_elem returns is undefined, so no file is known again",
)];

#[test]
fn all_of_this_holds_on_an_older_kernel() -> Result<()> {
    if !vm::kernel::is_to_be_had() {
        println!("not run: this is no Debian on x86_64");
        return Ok(());
    }
    // There, compiling it would take longer than everything else.
    site::uses()?;
    let program = std::env::current_exe()?;
    let program = program.to_str().context("a path in UTF-8")?;
    let mut command = vec![program, "--test-threads=1", "--skip", "all_of_this_holds_on_an_older_kernel"];
    for (test, why) in NOT_YET_ON_OLDER_KERNELS {
        println!("not run there: {test}: {why}");
        command.extend(["--skip", test]);
    }
    let output = vm::run(&command, &[("RUST_BACKTRACE", "0")], Duration::from_secs(600))?;
    let (kernel, console) = (output.kernel, output.console);
    ensure!(output.status == 0 && console.contains("test result: ok."), "on Linux {kernel}:\n{console}");
    println!("all tests passed on Linux {kernel}");
    Ok(())
}
