//! Output and exit codes of the commands `bundle` and `store`.

use std::collections::HashMap;

use ::bundles::bundle::{Bundle, PublishedLayer, WhiteoutDirectory};
use ::bundles::image::Digest;
use ::bundles::path::RootPath;
use ::bundles::store::Store;

use crate::support::{REPOSITORY, STORED, bundle, file_names, object, run, serve, write};

#[test]
fn a_bundle_is_verified_against_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let objects: Vec<_> =
        STORED.iter().enumerate().map(|(n, (stored, raw))| object(&n.to_string(), stored, *raw)).collect();
    let path = |n: usize| objects[n].hash.url_path(objects[n].kind);
    let all: HashMap<_, _> = (0..2).map(|n| (path(n), STORED[n].0.to_vec())).collect();
    let (mut flipped, mut missing) = (all.clone(), all.clone());
    flipped.get_mut(&path(1)).unwrap()[3] ^= 1;
    missing.remove(&path(1));
    let file = write(directory.path(), &bundle("image", objects), "bundle");
    let file = file.to_str().unwrap();
    for (case, files, content, code, expected) in [
        ("all", &all, false, 0, "2 objects, all correct"),
        ("all", &all, true, 0, "2 objects, all correct"),
        ("flipped", &flipped, false, 0, "all correct"),
        ("flipped", &flipped, true, 1, "/usr/lib/1: "),
        ("missing", &missing, false, 1, "the server answered 404"),
        ("missing", &missing, true, 1, "2 objects, 1 missing or wrong"),
    ] {
        let url = serve(files.clone());
        let mut arguments = vec!["bundle", "verify", file, "--repository", &url];
        arguments.extend(content.then_some("--content"));
        let (found, text) = run(&arguments);
        assert!(found == code && text.contains(expected), "{case}, content {content}: {found}\n{text}");
    }
    let (code, text) = run(&["bundle", "verify", file, "--repository", "http://127.0.0.1:1/cvmfs/other.test.example"]);
    assert!(code == 2 && text.contains(REPOSITORY) && text.contains("--repository"), "{code}\n{text}");
}

#[test]
fn growth_is_exit_code_1_and_an_error_is_2() {
    let directory = tempfile::tempdir().unwrap();
    let sized = |name: &str, size| object(name, name.as_bytes(), size);
    let old = write(directory.path(), &bundle("image", vec![sized("a", 1000), sized("b", 1000)]), "old");
    let new = write(directory.path(), &bundle("image", vec![sized("a", 1000), sized("b", 1300)]), "new");
    let none = directory.path().join("none");
    let [old, new, none] = [&old, &new, &none].map(|path| path.to_str().unwrap());
    for (arguments, code, expected) in [
        (
            &["bundle", "check-growth", old, new, "--max-growth", "15%"][..],
            0,
            "(+15.0%), 2 -> 2 objects (+0.0%), at most +15%: ok",
        ),
        (
            &["bundle", "check-growth", old, new, "--max-growth", "14.9%"],
            1,
            "| `/usr/lib/b` | 1.00 kB | 1.30 kB | +300 B |",
        ),
        (&["bundle", "check-growth", old, new], 1, "at most +10%: too much"),
        (&["bundle", "check-growth", new, old], 0, "-13.0%"),
        (&["bundle", "check-growth", old, none], 2, "none"),
        (&["bundle", "check-growth", old, new, "--max-growth", "much"], 2, "not a percentage"),
        (&["bundle", "diff", old, new], 0, "grown (1)"),
        (&["bundle", "diff", old, new, "--json"], 0, "\"path\": \"/usr/lib/b\""),
        (&["bundle", "diff", old, none], 1, "none"),
    ] {
        let (found, text) = run(arguments);
        assert!(found == code && text.contains(expected), "{arguments:?}: {found}\n{text}");
    }
}

#[test]
fn a_bundle_is_shown_in_four_forms() {
    let directory = tempfile::tempdir().unwrap();
    let root = WhiteoutDirectory {
        path: RootPath::new("/").unwrap(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        whiteouts: vec![b".wh.gone".to_vec()],
    };
    let layer = PublishedLayer { digest: Digest::sha256(b"layer"), directories: vec![root] };
    let bundle = Bundle { layers: vec![layer], ..bundle("image", vec![object("a", b"a", 1000)]) };
    let file = write(directory.path(), &bundle, "bundle");
    let file = file.to_str().unwrap();
    for (form, expected) in [
        (&[][..], "layers      1, with 1 whiteouts\n"),
        (&[][..], "      1         1 B     1.00 kB  100.0%  /usr/lib\n"),
        (&["--tree", "--depth", "1"], "  100.0%    usr/\n"),
        (&["--tree"], "  100.0%      lib/\n"),
        (&["--table"], " /usr/lib/a\n"),
        (&["--json"], "\"raw_size\": 1000"),
    ] {
        let (code, text) = run(&[&["bundle", "inspect", file], form].concat());
        assert!(code == 0 && text.contains(expected), "{form:?}: {code}\n{text}");
    }
    assert!(!run(&["bundle", "inspect", file, "--tree", "--depth", "1"]).1.contains("lib/"));
    assert_eq!(run(&["bundle", "inspect", file, "--tree", "--json"]).0, 2);
}

#[test]
fn the_store_is_read_beside_a_daemon_and_changed_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let copy = directory.path().join("copy");
    let (first, second) = (bundle("one", vec![object("a", b"a", 1)]), bundle("two", vec![]));
    let files = [("1", &first), ("2", &second)].map(|(name, bundle)| write(directory.path(), bundle, name));
    let [first_file, second_file] = files.each_ref().map(|path| path.to_str().unwrap());
    let [directory_text, copied] = [&store, &copy].map(|path| path.to_str().unwrap());
    let run_store =
        |command: &str, more: &[&str]| run(&[&["store", command, "--store", directory_text], more].concat());

    let (code, text) = run_store("list", &[]);
    assert!(code == 1 && text.contains("no bundle store in"), "{text}");
    assert_eq!(run_store("import", &[first_file, second_file]).0, 0);
    let daemon = Store::open(&store, u64::MAX).unwrap();
    let before = file_names(&store);
    let chain = first.image.chain_id.to_string();
    for (command, more, expected) in [
        ("list", &[][..], chain.as_str()),
        ("list", &["--json"], "\"reference\": \"registry.test.example/two:1\""),
        ("show", &[&chain], "chain ID    sha256:"),
        ("show", &[&chain[7..15], "--table"], "/usr/lib/a"),
        ("export", &["registry.test.example/one:1", "--output", copied], "copy"),
        ("verify", &[], "2 bundles are intact, 0 damaged"),
    ] {
        let (code, text) = run_store(command, more);
        assert!(code == 0 && text.contains(expected), "{command} {more:?}: {code}\n{text}");
    }
    assert_eq!(file_names(&store), before, "a command that reads has left a file");
    assert_eq!(Bundle::read(&copy).unwrap(), first);
    for (command, more) in [("rm", chain.as_str()), ("import", first_file)] {
        let (code, text) = run_store(command, &[more]);
        assert!(code == 1 && text.contains("stop the daemon first"), "{command}: {code}\n{text}");
    }
    drop(daemon);
    let (code, text) = run_store("rm", &[&chain]);
    assert!(code == 0 && text.contains("1 removed"), "{text}");
    let (code, text) = run_store("show", &[&chain]);
    assert!(code == 1 && text.contains("store list"), "{text}");
    assert!(run_store("rm", &["--unused-for", "1h"]).1.contains("0 removed"));
    assert!(run_store("rm", &["--unused-for", "0s"]).1.contains("1 removed"));
}
