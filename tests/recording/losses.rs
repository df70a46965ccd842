//! Losses are counted by cause, and errors say what is wrong.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};
use bundles::path::RootPath;
use bundles::trace::{End, LossCause, Trace};
use tracer_ebpf::{Error, Options, Recorder, Target};

use crate::test_container::{TestContainer, output, paths, run, subject, write};

const FILES: usize = 20_000;

fn fill_many(root: &Path) -> Result<()> {
    let many = root.join("many");
    fs::create_dir(&many)?;
    (0..FILES).try_for_each(|i| Ok(fs::write(many.join(format!("file-{i:05}")), "")?))
}

fn lost(trace: &Trace) -> Vec<(LossCause, u64)> {
    trace.losses.by_cause().collect()
}

#[test]
fn twenty_thousand_files_lose_nothing() -> Result<()> {
    let container = TestContainer::new(fill_many)?;
    let trace = container.record_command(&["/bin/uses", "all:/many", "all:/many"])?;
    ensure!(trace.is_complete(), "{:?}", trace.faults());
    let found: HashSet<_> = trace.files.iter().map(|f| f.path.clone()).collect();
    let many = (0..FILES).map(|i| RootPath::new(format!("/many/file-{i:05}")));
    let expected: HashSet<_> = many.chain([RootPath::new("/usr/bin/uses")]).collect::<Result<_, _>>()?;
    ensure!(found == expected);
    assert_eq!(trace.files.len(), FILES + 1);
    Ok(())
}

#[test]
fn losses_of_a_small_ring_are_counted() -> Result<()> {
    let container = TestContainer::new(fill_many)?;
    let trace = container
        .record_command_with(Options { ring_bytes: 4096, ..Options::default() }, &["/bin/uses", "all:/many"])?;
    ensure!(!trace.is_complete() && trace.losses.total() > 0, "nothing was lost");
    ensure!(lost(&trace).iter().all(|(cause, _)| *cause == LossCause::BufferFull), "{:?}", trace.losses);
    // Not only files may be lost, but also reports of their contents.
    ensure!(trace.files.len() + trace.losses.total() as usize > FILES, "{} {:?}", trace.files.len(), trace.losses);
    Ok(())
}

#[test]
fn pages_beyond_the_size_of_the_map_are_counted() -> Result<()> {
    let container = TestContainer::new(|root| Ok(fs::write(root.join("etc/large"), vec![7; 4096 * 64 * 40])?))?;
    let options = Options { page_bitmaps: 16, ..Options::default() };
    let argv: Vec<_> = (0..40).map(|piece| format!("read:{},1:/etc/large", piece * 64 * 4096)).collect();
    let argv: Vec<_> = ["/bin/uses"].into_iter().chain(argv.iter().map(String::as_str)).collect();
    let trace = container.record_command_with(options, &argv)?;
    ensure!(
        lost(&trace).iter().any(|(cause, count)| *cause == LossCause::TableFull && *count >= 24),
        "{:?}",
        trace.losses
    );
    Ok(())
}

#[test]
fn deep_paths_are_recorded_and_too_deep_ones_counted() -> Result<()> {
    // The recorder follows 96 components. For contents the path of the layer's directory counts as well.
    let path = |depth: usize| format!("{}file", "d/".repeat(depth - 1));
    let container = TestContainer::new(|root| write(root, &[(&path(80), "x"), (&path(97), "x")]))?;
    let uses = [80, 97].map(|depth| format!("open:/{}", path(depth)));
    let trace = container.record_command(&["/bin/uses", &uses[0], &uses[1], &uses[1]])?;
    let opened: Vec<_> = paths(&trace.files).into_iter().filter(|path| path.starts_with("/d")).collect();
    assert_eq!(opened, [format!("/{}", path(80))]);
    assert_eq!(lost(&trace), [(LossCause::TooDeep, 1)]);
    Ok(())
}

#[test]
fn recording_nothing_is_an_error() -> Result<()> {
    let container = TestContainer::new(|_| Ok(()))?;
    let recorded = container.record(Options::default())?;
    match recorded.recording.stop(End::Stopped) {
        Err(Error::NothingRecorded(path)) => assert_eq!(path, container.cgroup.path()),
        other => bail!("expected NothingRan, got {other:?}"),
    }
    let recorder = Recorder::load(Options::default())?;
    for target in [Target::New("/proc".into()), Target::Running("/proc".into())] {
        let out = output(&container.scratch.path().join("none"))?;
        let Err(error) = recorder.follow(&target, subject(), out) else { bail!("{target:?} was followed") };
        ensure!(error.to_string().contains("/proc"), "{error}");
    }
    let empty_cgroup = Target::Running(container.cgroup.path().into());
    let Err(error) = recorder.follow(&empty_cgroup, subject(), output(&container.scratch.path().join("none"))?) else {
        bail!("an empty cgroup was followed")
    };
    ensure!(error.to_string().contains("no process"), "{error}");
    Ok(())
}

#[test]
fn an_unfinished_trace_is_readable() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/one", "1")]))?;
    let recorded = container.record(Options::default())?;
    run(container.command(&[], &["/bin/uses", "open:/etc/one"]))?;
    // Uses are written within a second, whether or not there are more.
    let begin = std::time::Instant::now();
    let trace = loop {
        match Trace::read(&recorded.trace) {
            Ok(trace) if paths(&trace.files).contains(&"/etc/one".to_owned()) => break trace,
            _ if begin.elapsed().as_secs() > 60 => bail!("nothing was written during the recording"),
            _ => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    ensure!(matches!(trace.end, End::Unfinished(_)) && !trace.is_complete(), "{:?}", trace.end);
    drop(recorded.recording);
    ensure!(matches!(Trace::read(&recorded.trace)?.end, End::Unfinished(_)));
    Ok(())
}

#[test]
fn a_full_disk_ends_the_recording_with_an_error() -> Result<()> {
    let container = TestContainer::new(|root| write(root, &[("etc/one", "1")]))?;
    let target = Target::New(container.cgroup.path().into());
    let recording = Recorder::load(Options::default())?.follow(&target, subject(), output("/dev/full".as_ref())?)?;
    run(container.command(&[], &["/bin/uses", "open:/etc/one"]))?;
    let begin = std::time::Instant::now();
    while !recording.has_failed() {
        ensure!(begin.elapsed().as_secs() < 60, "the error was not noticed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let Err(error) = recording.stop(End::Exited(0)) else { bail!("the trace was finished") };
    ensure!(error.to_string().contains("trace"), "{error}");
    Ok(())
}

/// Not a test but the child process of the next test, which runs it as another user.
#[test]
#[ignore = "runs as the child of another test"]
fn load_without_privileges() {
    match Recorder::load(Options::default()) {
        Ok(_) => println!("loaded"),
        Err(error) => println!("error: {error}"),
    }
}

#[test]
fn the_error_without_privileges_says_what_to_do() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755))?;
    let program = scratch.path().join("test");
    fs::copy(std::env::current_exe()?, &program)?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(&program)
        .args(["--ignored", "--exact", "losses::load_without_privileges", "--nocapture"])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("error: no permission to") && text.contains("run as root"), "{output:?}");
    Ok(())
}
