//! `cvmfs-prefetch ... | head`: a closed standard output ends every command quietly.

use std::collections::HashMap;
use std::io::pipe;
use std::process::{Command, Output};

use ::bundles::store::Store;

use crate::support::{PROGRAM, STORED, STRACE, bundle, chain_id, import, object, serve, write};

/// Runs the program with a standard output that nobody reads.
pub(crate) fn run_unread(arguments: &[&str]) -> Output {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    Command::new(PROGRAM).args(arguments).stdout(writer).output().unwrap()
}

#[test]
fn commands_on_files_end_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let objects: Vec<_> = STORED.iter().map(|(stored, raw)| object("a", stored, *raw)).collect();
    let served =
        objects.iter().zip(STORED).map(|(object, (stored, _))| (object.hash.url_path(object.kind), stored.to_vec()));
    let (all, none) = (serve(served.collect()), serve(HashMap::new()));
    let trace = import(directory.path(), "strace", STRACE).display().to_string();
    let small = write(directory.path(), &bundle("image", vec![]), "small").display().to_string();
    let large = bundle("image", objects);
    Store::open(directory.path().join("store").as_path(), u64::MAX).unwrap().put(&large, None).unwrap();
    let large = write(directory.path(), &large, "large").display().to_string();
    let (store, output, tree, tar) = (path("store"), path("output"), path("tree"), path("tar"));
    std::fs::create_dir(&tree).unwrap();
    let (image, recording) = (chain_id().to_string(), path("strace.recording"));
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["trace", "show", &trace], 0),
        (&["trace", "show", &trace, "--json"], 0),
        (&["trace", "stats", &trace], 0),
        (&["trace", "stats", &trace, "--json"], 0),
        (&["trace", "import", &recording, "--format", "strace", "--image", &image, "-o", &output], 0),
        (&["trace", "export", &trace, "--format", "csv"], 0),
        (&["trace", "export", &trace, "--format", "chrome"], 0),
        (&["trace", "export", &trace, "--format", "json"], 0),
        (&["bundle", "inspect", &large], 0),
        (&["bundle", "inspect", &large, "--table"], 0),
        (&["bundle", "inspect", &large, "--tree"], 0),
        (&["bundle", "inspect", &large, "--json"], 0),
        (&["bundle", "diff", &small, &large], 0),
        (&["bundle", "verify", &large, "--repository", &all], 0),
        (&["bundle", "push", &large, "--tree", &tree], 0),
        (&["bundle", "push", &large, "--tarball", &tar], 0),
        (&["bundle", "export", &large, "--format", "nydus"], 0),
        (&["bundle", "export", &large, "--format", "nydus", "--output", &output], 0),
        (&["bundle", "check-growth", &small, &small], 0),
        (&["store", "list", "--store", &store], 0),
        (&["store", "show", "registry.test.example/image:1", "--store", &store], 0),
        (&["store", "export", "registry.test.example/image:1", "--store", &store, "-o", &output], 0),
        (&["store", "verify", "--store", &store], 0),
        (&["store", "import", &large, "--store", &store], 0),
        (&["store", "rm", "registry.test.example/image:1", "--store", &store], 0),
        // The verdict of a check is the exit code all the same.
        (&["bundle", "verify", &large, "--repository", &none], 1),
        (&["bundle", "check-growth", &small, &large], 1),
    ] {
        let output = run_unread(&[&["--quiet"], arguments].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.as_str()), (Some(code), ""), "{arguments:?}");
    }
}
