//! The jobs that the benchmark runs with and without a recorder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::test_container::TestContainer;

const ONE_LINERS: usize = 1200;
/// Generated modules. With the 700 to 900 files of the standard library the job uses more than a thousand.
const GENERATED: usize = 400;
const OPENS: usize = 200_000;
/// Files that are opened repeatedly.
const REPEATED: usize = 1000;
/// C files that the neighbour compiles.
const COMPILED: usize = 2;

/// A job, with a limit for its time with a recorder relative to its time without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Imports the standard library and some generated modules, more than a thousand files.
    Python,
    /// Imports modules of one line: the worst case, because hardly anything is done with a file.
    OneLiners,
    /// Opens a few files repeatedly.
    SameFiles,
    /// Opens each file once.
    DifferentFiles,
    /// Compiles C files outside the recorded container.
    Neighbour,
}

impl Job {
    pub(crate) const LIMITED: [Self; 4] = [Self::Python, Self::SameFiles, Self::DifferentFiles, Self::Neighbour];
    /// Jobs whose limit of one or two per cent is too small for the clock.
    pub(crate) const COUNTED: [Self; 3] = [Self::Python, Self::OneLiners, Self::Neighbour];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Python => format!("Python importing its standard library and {GENERATED} modules of one line"),
            Self::OneLiners => format!("Python importing {ONE_LINERS} modules of one line"),
            Self::SameFiles => format!("{OPENS} opens of {REPEATED} files, recorded already"),
            Self::DifferentFiles => format!("{OPENS} opens of as many files"),
            Self::Neighbour => format!("a neighbour compiling {COMPILED} C files"),
        }
    }

    pub(crate) fn limit(self) -> f64 {
        match self {
            Self::Python => 1.02,
            Self::OneLiners => f64::INFINITY,
            Self::SameFiles => 1.4,
            Self::DifferentFiles => 2.0,
            Self::Neighbour => 1.01,
        }
    }

    /// The fewest files that the job must use, or else its limit is meaningless.
    pub(crate) fn min_files(self) -> usize {
        match self {
            Self::Python | Self::SameFiles => 1000,
            Self::OneLiners => ONE_LINERS,
            Self::DifferentFiles => OPENS,
            Self::Neighbour => 0,
        }
    }

    /// How many pairs of runs, with and without a recorder, make `rounds` rounds. Jobs with a limit of one or two per cent, less
    /// than the difference between two equal runs, are short and run often.
    pub(crate) fn pairs(self, rounds: usize) -> usize {
        match self {
            Self::Python | Self::OneLiners | Self::Neighbour => rounds * 8,
            Self::SameFiles | Self::DifferentFiles => rounds,
        }
    }

    /// Creates the job's files below the directory `scratch`.
    pub(crate) fn prepare(self, scratch: &Path) -> Result<()> {
        match self {
            Self::Python => library(&scratch.join("modules")),
            Self::OneLiners => one_liners(&scratch.join("modules")),
            Self::SameFiles => files(&scratch.join("files"), REPEATED),
            Self::DifferentFiles => files(&scratch.join("files"), OPENS),
            Self::Neighbour => sources(&scratch.join("sources")),
        }
    }

    /// Runs the job once, in the container or, for the neighbour, outside. Returns the time it took.
    pub(crate) fn run(self, container: &TestContainer, scratch: &Path) -> Result<Duration> {
        let program = std::env::current_exe()?;
        let mut command = match self {
            Self::Python | Self::OneLiners => {
                let modules = scratch.join("modules");
                let run = format!("import sys; sys.path.insert(0, {modules:?}); import all_of_them");
                container.command(&[], &[python()?, "-c", &run])
            }
            Self::SameFiles | Self::DifferentFiles => {
                let words =
                    [&program, &PathBuf::from("opens"), &scratch.join("files"), &PathBuf::from(OPENS.to_string())];
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                container.command(&[], &words.iter().map(AsRef::as_ref).collect::<Vec<_>>())
            }
            Self::Neighbour => compile(&scratch.join("sources")),
        };
        let begin = Instant::now();
        let output = command.output().with_context(|| format!("{command:?}"))?;
        let took = begin.elapsed();
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        // The opens measure themselves, without the program's start and the reading of the directory.
        match String::from_utf8_lossy(&output.stdout).trim().parse() {
            Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
            Err(_) => Ok(took),
        }
    }
}

/// Opens and closes the files of a directory in turn, `count` opens in total, and prints the nanoseconds.
pub(crate) fn opens(directory: &str, count: usize) -> Result<()> {
    let mut paths: Vec<_> = fs::read_dir(directory)?.map(|entry| anyhow::Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    if count > paths.len() {
        // Have each file recorded before the measurement.
        paths.iter().try_for_each(|path| fs::File::open(path).map(drop))?;
    }
    let begin = Instant::now();
    for path in paths.iter().cycle().take(count) {
        drop(fs::File::open(path)?);
    }
    println!("{}", begin.elapsed().as_nanos());
    Ok(())
}

pub(crate) fn files(directory: &Path, count: usize) -> Result<()> {
    fs::create_dir(directory)?;
    (0..count).try_for_each(|number| Ok(fs::write(directory.join(format!("file-{number:07}")), "")?))
}

fn library(directory: &Path) -> Result<()> {
    let names = output(Command::new(python()?).args(["-c", include_str!("importable.py")]))?;
    import_all(directory, names.lines(), GENERATED)
}

fn one_liners(directory: &Path) -> Result<()> {
    import_all(directory, "".lines(), ONE_LINERS)
}

/// Creates a module that imports the modules `names` and some generated modules of one line.
fn import_all<'a>(directory: &Path, names: impl Iterator<Item = &'a str>, generated: usize) -> Result<()> {
    fs::create_dir(directory)?;
    let mut all: String = names.map(|name| format!("import {name}\n")).collect();
    for number in 0..generated {
        fs::write(directory.join(format!("module{number}.py")), "VALUE = 1\n")?;
        all.push_str(&format!("import module{number}\n"));
    }
    fs::write(directory.join("all_of_them.py"), all)?;
    output(Command::new(python()?).args(["-m", "compileall", "-q"]).arg(directory)).map(drop)
}

/// The path of the interpreter itself: `python3` in `PATH` may be a wrapper script.
fn python() -> Result<&'static str> {
    static FOUND: OnceLock<String> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let path = output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
    Ok(FOUND.get_or_init(|| path.trim().to_owned()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn sources(directory: &Path) -> Result<()> {
    fs::create_dir(directory)?;
    let body: String = (0..300).map(|n| format!("int f{n}(int x) {{ return printf(\"%d\", x * {n}); }}\n")).collect();
    let source = format!("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n{body}");
    (0..COMPILED).try_for_each(|number| Ok(fs::write(directory.join(format!("{number}.c")), &source)?))
}

fn compile(directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "for source in *.c; do gcc -O1 -c -o /dev/null $source || exit 1; done"])
        .current_dir(directory);
    command
}
