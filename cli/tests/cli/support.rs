//! Running the program, bundles to run it with, and a server of a repository.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::bundles::bundle::{Bundle, BundleObject};
use ::bundles::image::{ChainId, Digest, ImageId};
use ::bundles::object::ContentHash;
use ::bundles::path::RootPath;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_cvmfs-prefetch");
pub(crate) const REPOSITORY: &str = "unpacked.test.example";

/// The content of an empty file and of one with the byte 0, as a server stores them.
pub(crate) const STORED: [(&[u8], u64); 2] = [
    (&[0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01], 0),
    (&[0x78, 0x9c, 0x63, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01], 1),
];

/// Runs the program. Returns its exit code and everything that it printed.
pub(crate) fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

pub(crate) fn object(name: &str, stored: &[u8], raw_size: u64) -> BundleObject {
    let path = format!("/.layers/ab/{}/layerfs/usr/lib/{name}", "ab".repeat(32));
    let hash = ContentHash::sha1_of(stored);
    let object = BundleObject::file(hash, raw_size, RootPath::new(path).unwrap());
    BundleObject { stored_size: stored.len() as u64, ..object }
}

pub(crate) fn bundle(name: &str, objects: Vec<BundleObject>) -> Bundle {
    let chain_id = ChainId(Digest::sha256(name.as_bytes()));
    let image = ImageId { chain_id, manifest: None, reference: format!("registry.test.example/{name}:1") };
    Bundle { objects, ..Bundle::new(image, REPOSITORY) }
}

/// Writes a bundle file. Returns its path.
pub(crate) fn write(directory: &Path, bundle: &Bundle, name: &str) -> PathBuf {
    let path = directory.join(name);
    bundle.write(&path).unwrap();
    path
}

/// Starts a server of a repository with `files`. Returns its URL.
pub(crate) fn serve(files: HashMap<String, Vec<u8>>) -> String {
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
            // The client may close the connection early.
            let _ = connection.write_all(&[head.as_bytes(), body].concat());
        }
    });
    url
}

/// The names of the files in a directory.
pub(crate) fn file_names(directory: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// A recording of strace: a program, and a file that it opens.
pub(crate) const STRACE: &str = "\
812   1700000000.000100 execve(\"/bin/sh\", [\"sh\"], 0x7ffc /* 9 vars */) = 0
812   1700000000.000500 openat(AT_FDCWD</srv>, \"/etc/a,b\", O_RDONLY) = 3</etc/a,b>
812   1700000000.002000 exit_group(0)     = ?
";

pub(crate) fn chain_id() -> ChainId {
    ChainId(Digest::sha256(b"image"))
}

/// The path of a trace that is imported from `recording`.
pub(crate) fn import(directory: &Path, format: &str, recording: &str) -> PathBuf {
    let (from, to) = (directory.join(format!("{format}.recording")), directory.join(format!("{format}.trace")));
    std::fs::write(&from, recording).unwrap();
    let (image, output) = (chain_id().to_string(), to.to_str().unwrap());
    let from = from.to_str().unwrap();
    let (code, text) = run(&["trace", "import", from, "--format", format, "--image", &image, "--output", output]);
    assert_eq!(code, 0, "{text}");
    to
}
