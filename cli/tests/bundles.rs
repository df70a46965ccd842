//! What a person sees of the commands that look at bundles: what they print, and how they exit.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundles::bundle::{Bundle, BundleObject, PublishedLayer, WhiteoutDirectory};
use bundles::image::{ChainId, Digest, ImageId};
use bundles::object::ContentHash;
use bundles::path::RootPath;
use bundles::store::Store;

const REPOSITORY: &str = "unpacked.test.example";

/// The content of an empty file and of one with the byte 0, as a server stores them.
const STORED: [(&[u8], u64); 2] = [
    (&[0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01], 0),
    (&[0x78, 0x9c, 0x63, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01], 1),
];

/// Runs the command; its exit code, and all it printed.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cvmfs-prefetch")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn object(name: &str, stored: &[u8], raw_size: u64) -> BundleObject {
    let path = format!("/.layers/ab/{}/layerfs/usr/lib/{name}", "ab".repeat(32));
    let hash = ContentHash::sha1_of(stored);
    let object = BundleObject::file(hash, raw_size, RootPath::new(path).unwrap());
    BundleObject { stored_size: stored.len() as u64, ..object }
}

fn bundle(name: &str, objects: Vec<BundleObject>) -> Bundle {
    let chain_id = ChainId(Digest::sha256(name.as_bytes()));
    let image = ImageId { chain_id, manifest: None, reference: format!("registry.test.example/{name}:1") };
    Bundle { objects, ..Bundle::new(image, REPOSITORY) }
}

fn written(directory: &Path, bundle: &Bundle, name: &str) -> PathBuf {
    let path = directory.join(name);
    bundle.write(&path).unwrap();
    path
}

/// A server of a repository with `files`; its URL.
fn serve(files: HashMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/cvmfs/{REPOSITORY}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let Some(Ok(request)) = lines.next() else { continue };
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = request.split(' ').nth(1).unwrap().trim_start_matches(&format!("/cvmfs/{REPOSITORY}/"));
            let (status, body) = files.get(path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body.as_slice()));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let body = if request.starts_with("GET") { body } else { &[] };
            // The client may have seen enough.
            let _ = connection.write_all(&[head.as_bytes(), body].concat());
        }
    });
    url
}

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
    let file = written(directory.path(), &bundle("image", objects), "bundle");
    let file = file.to_str().unwrap();
    for (case, files, content, code, said) in [
        ("all", &all, false, 0, "2 objects, all right"),
        ("all", &all, true, 0, "2 objects, all right"),
        ("flipped", &flipped, false, 0, "all right"),
        ("flipped", &flipped, true, 1, "/usr/lib/1: "),
        ("missing", &missing, false, 1, "the server answered 404"),
        ("missing", &missing, true, 1, "2 objects, 1 wrong"),
    ] {
        let url = serve(files.clone());
        let mut arguments = vec!["verify", file, "--repository", &url];
        arguments.extend(content.then_some("--content"));
        let (found, text) = run(&arguments);
        assert!(found == code && text.contains(said), "{case}, content {content}: {found}\n{text}");
    }
    let (code, text) = run(&["verify", file, "--repository", "http://127.0.0.1:1/cvmfs/other.test.example"]);
    assert!(code == 2 && text.contains(REPOSITORY) && text.contains("--repository"), "{code}\n{text}");
}

#[test]
fn a_start_that_grew_too_much_is_exit_code_1_and_no_answer_is_2() {
    let directory = tempfile::tempdir().unwrap();
    let sized = |name: &str, size| object(name, name.as_bytes(), size);
    let old = written(directory.path(), &bundle("image", vec![sized("a", 1000), sized("b", 1000)]), "old");
    let new = written(directory.path(), &bundle("image", vec![sized("a", 1000), sized("b", 1300)]), "new");
    let none = directory.path().join("none");
    let [old, new, none] = [&old, &new, &none].map(|path| path.to_str().unwrap());
    for (arguments, code, said) in [
        (
            &["startup-diff", old, new, "--max-growth", "15%"][..],
            0,
            "(+15.0%), 2 -> 2 objects (+0.0%), at most +15%: ok",
        ),
        (&["startup-diff", old, new, "--max-growth", "14.9%"], 1, "| `/usr/lib/b` | 1.0 kB | 1.3 kB | +300 B |"),
        (&["startup-diff", old, new], 1, "at most +10%: too much"),
        (&["startup-diff", new, old], 0, "-13.0%"),
        (&["startup-diff", old, none], 2, "none"),
        (&["startup-diff", old, new, "--max-growth", "much"], 2, "not a percentage"),
        (&["diff", old, new], 0, "grew (1)"),
        (&["diff", old, new, "--json"], 0, "\"path\": \"/usr/lib/b\""),
        (&["diff", old, none], 1, "none"),
    ] {
        let (found, text) = run(arguments);
        assert!(found == code && text.contains(said), "{arguments:?}: {found}\n{text}");
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
    let file = written(directory.path(), &bundle, "bundle");
    let file = file.to_str().unwrap();
    for (form, said) in [
        (&[][..], "layers      1, whiteouts of what they delete: 1\n"),
        (&[][..], "      1         1 B      1.0 kB  100.0%  /usr/lib\n"),
        (&["--tree", "--depth", "1"], "  100.0%    usr/\n"),
        (&["--tree"], "  100.0%      lib/\n"),
        (&["--table"], " /usr/lib/a\n"),
        (&["--json"], "\"raw_size\": 1000"),
    ] {
        let (code, text) = run(&[&["inspect", file], form].concat());
        assert!(code == 0 && text.contains(said), "{form:?}: {code}\n{text}");
    }
    assert!(!run(&["inspect", file, "--tree", "--depth", "1"]).1.contains("lib/"));
    assert_eq!(run(&["inspect", file, "--tree", "--json"]).0, 2);
}

#[test]
fn the_store_is_read_beside_a_daemon_and_changed_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let copy = directory.path().join("copy");
    let (one, two) = (bundle("one", vec![object("a", b"a", 1)]), bundle("two", vec![]));
    let files = [("1", &one), ("2", &two)].map(|(name, bundle)| written(directory.path(), bundle, name));
    let [one_file, two_file] = files.each_ref().map(|path| path.to_str().unwrap());
    let (at, copied) = (store.to_str().unwrap(), copy.to_str().unwrap());
    let of = |command: &str, more: &[&str]| run(&[&["bundle", command, "--store", at], more].concat());

    let (code, text) = of("list", &[]);
    assert!(code == 1 && text.contains("no bundle store in"), "{text}");
    assert_eq!(of("import", &[one_file, two_file]).0, 0);
    let daemon = Store::open(&store, u64::MAX).unwrap();
    let before = names(&store);
    let chain = one.image.chain_id.to_string();
    for (command, more, said) in [
        ("list", &[][..], chain.as_str()),
        ("list", &["--json"], "\"reference\": \"registry.test.example/two:1\""),
        ("show", &[&chain], "chain ID    sha256:"),
        ("show", &[&chain[7..15], "--table"], "/usr/lib/a"),
        ("export", &["registry.test.example/one:1", "--output", copied], ""),
        ("verify", &[], "2 bundles are whole"),
    ] {
        let (code, text) = of(command, more);
        assert!(code == 0 && text.contains(said), "{command} {more:?}: {code}\n{text}");
    }
    assert_eq!(names(&store), before, "reading has left something");
    assert_eq!(Bundle::read(&copy).unwrap(), one);
    for (command, more) in [("rm", chain.as_str()), ("import", one_file)] {
        let (code, text) = of(command, &[more]);
        assert!(code == 1 && text.contains("stop the daemon first"), "{command}: {code}\n{text}");
    }
    drop(daemon);
    let (code, text) = of("rm", &[&chain]);
    assert!(code == 0 && text.contains("1 removed"), "{text}");
    let (code, text) = of("show", &[&chain]);
    assert!(code == 1 && text.contains("bundle list"), "{text}");
    assert!(of("rm", &["--unused-for", "1h"]).1.contains("0 removed"));
    assert!(of("rm", &["--unused-for", "0s"]).1.contains("1 removed"));
}

/// What is in a directory.
fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
