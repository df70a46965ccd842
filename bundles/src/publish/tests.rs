use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::image::{ChainId, Digest, ImageId};
use crate::layout::manifest_path;
use crate::pack;

fn bundle(manifest: &[u8], traces: u32) -> Bundle {
    let image = ImageId {
        chain_id: ChainId(Digest::sha256(b"chain")),
        manifest: Some(Digest::sha256(manifest)),
        reference: "registry.example.org/demo:1".to_owned(),
    };
    Bundle { traces, ..Bundle::new(image, "unpacked.example.org") }
}

/// Writes a pack file with one object into `directory`.
fn pack(directory: &Path, object: &[u8]) -> PathBuf {
    let (content, _) = pack::assemble(&[pack::PackedObject::file(object, 7)], &[object]).unwrap();
    let path = directory.join(pack::file_name(&Digest::sha256(&content)));
    std::fs::write(&path, content).unwrap();
    path
}

/// All files below `root`: mode and content, or where a link leads.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (metadata.permissions().mode() & 0o777, content));
        }
    }
    found
}

#[test]
fn published_bundles_have_two_names_and_are_replaced() {
    let tree = tempfile::tempdir().unwrap();
    for (manifest, traces) in [(b"one", 1), (b"two", 2), (b"two", 3)] {
        let bundle = bundle(manifest, traces);
        publish(&bundle, tree.path(), &[]).unwrap();
        let by_chain = tree.path().join(bundle_path(&bundle.image.chain_id));
        let by_manifest = tree.path().join(manifest_path(&Digest::sha256(manifest)));
        assert_eq!(Bundle::read(&by_chain).unwrap(), bundle);
        assert_eq!(Bundle::read(&by_manifest).unwrap(), bundle);
    }
    let names: Vec<_> = super::tests::tree(tree.path()).into_keys().filter(|n| !tree.path().join(n).is_dir()).collect();
    assert_eq!(names.len(), 2, "left over: {names:?}");
}

#[test]
fn a_missing_repository_root_is_named() {
    let message = publish(&bundle(b"m", 1), Path::new("/nonexistent/tree"), &[]).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/tree"), "{message}");
}

#[test]
fn packs_are_published_if_their_names_match() {
    let directory = tempfile::tempdir().unwrap();
    let good = pack(directory.path(), b"objects");
    let root = directory.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    publish(&bundle(b"m", 1), &root, std::slice::from_ref(&good)).unwrap();
    let written = std::fs::read(&good).unwrap();
    assert_eq!(std::fs::read(root.join(pack_path(&Digest::sha256(&written)))).unwrap(), written);

    let changed = directory.path().join(format!("{}.pack", Digest::sha256(b"other").hex()));
    std::fs::write(&changed, &written).unwrap();
    for bad in [changed, directory.path().join("objects.pack"), good.with_extension("bundle")] {
        let message = publish(&bundle(b"m", 1), &root, std::slice::from_ref(&bad)).unwrap_err().to_string();
        assert!(message.contains(bad.to_str().unwrap()), "{message}");
    }
}

/// Unpacks with the real `tar`.
#[test]
fn tarballs_are_reproducible_and_match_the_tree() {
    let directory = tempfile::tempdir().unwrap();
    let packs = [pack(directory.path(), b"some objects"), pack(directory.path(), &vec![7; 100_000])];
    let (bundle, written) = (bundle(b"m", 3), directory.path().join("written"));
    let [first, second] = ["first.tar", "second.tar"].map(|name| directory.path().join(name));
    std::fs::create_dir(&written).unwrap();
    publish(&bundle, &written, &packs).unwrap();
    tarball(&bundle, &first, &packs).unwrap();
    // Times of the files must not get into the tar file.
    for pack in &packs {
        std::fs::File::options().write(true).open(pack).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    tarball(&bundle, &second, &packs).unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

    let unpacked = directory.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").args(arguments).arg("--file").arg(&first).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    tar(&["--extract", "--no-same-owner", "--directory", unpacked.to_str().unwrap()]);
    assert_eq!(tree(&unpacked), tree(&written));

    let names: Vec<String> = tar(&["--list"]).lines().map(str::to_owned).collect();
    assert!(names.is_sorted() && names[0] == ".bundles", "{names:?}");
    let listing = tar(&["--list", "--verbose", "--numeric-owner", "--utc"]);
    assert!(listing.lines().all(|line| line.contains(" 0/0 ") && line.contains(" 1970-01-01 00:00 ")), "{listing}");
}

/// A fake `cvmfs_server`, which no Debian package has. It behaves like the real one where we rely on it: one
/// transaction at a time, the mount writable only inside it, a publish that ends it, an abort that needs `-f`
/// and discards what was written. Each command fails if a file `fail-<command>` exists.
const FAKE_SERVER: &str = r#"#!/bin/sh
here=$(dirname "$0"); echo "$*" >>"$here/calls"
[ ! -e "$here/fail-$1" ] || { echo "$1 was made to fail" >&2; exit 1; }
case "$1" in
transaction)
    [ ! -e "$here/lock" ] || { echo "another transaction is already open" >&2; exit 1; }
    touch "$here/lock"; mkdir "$here/cvmfs/$2" ;;
publish) [ -e "$here/lock" ] || exit 1; rm -rf "$here/published"; mv "$here/cvmfs/$2" "$here/published"; rm "$here/lock" ;;
abort) [ "$2" = -f ] && [ -e "$here/lock" ] || exit 1; rm -r "$here/cvmfs/$3" "$here/lock" ;;
*) exit 2 ;;
esac
"#;

const FQRN: &str = "unpacked.example.org";

struct Site {
    directory: tempfile::TempDir,
    server: CvmfsServer,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("cvmfs_server");
        // Written by another process: a file that this process has open for writing while another test forks
        // cannot be executed.
        let script = format!("cat >{0} && chmod 755 {0}", program.display());
        let mut shell = Command::new("sh").args(["-c", &script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), FAKE_SERVER.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        let mounts = directory.path().join("cvmfs");
        std::fs::create_dir(&mounts).unwrap();
        Self { server: CvmfsServer { program: program.into(), mounts }, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn publish(&self, bundle: &Bundle, packs: &[PathBuf]) -> Result<PathBuf, PublishError> {
        self.server.publish(bundle, FQRN, packs)
    }

    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.file("calls")).unwrap_or_default();
        calls.lines().map(|call| call.replace(FQRN, "R")).collect()
    }
}

#[test]
fn a_transaction_publishes_the_tree() {
    let site = Site::new();
    let packs = [pack(site.directory.path(), b"objects")];
    let bundle = bundle(b"m", 1);
    let path = site.publish(&bundle, &packs).unwrap();
    assert_eq!(path, site.file("cvmfs").join(FQRN).join(bundle_path(&bundle.image.chain_id)));
    assert_eq!(site.calls(), ["transaction R", "publish R"]);
    let written = tempfile::tempdir().unwrap();
    publish(&bundle, written.path(), &packs).unwrap();
    assert_eq!(tree(&site.file("published")), tree(written.path()));
}

#[test]
fn failed_transactions_are_aborted_and_reported() {
    // What is made to fail; the calls that follow; what the error says; whether the transaction stays open.
    type Names<'a> = &'a [&'a str];
    let cases: [(Names<'_>, Names<'_>, Names<'_>, bool); 3] = [
        (&["fail-transaction"], &["transaction R"], &["nothing was changed", "transaction was made to fail"], false),
        (
            &["fail-publish"],
            &["transaction R", "publish R", "abort -f R"],
            &["nothing was published", "publish was made to fail"],
            false,
        ),
        (
            &["fail-publish", "fail-abort"],
            &["transaction R", "publish R", "abort -f R"],
            &["publish was made to fail", "still open", "abort was made to fail", "Run `cvmfs_server abort unpacked"],
            true,
        ),
    ];
    for (failing, calls, expected, open) in cases {
        let site = Site::new();
        failing.iter().for_each(|name| std::fs::write(site.file(name), "").unwrap());
        let message = site.publish(&bundle(b"m", 1), &[]).unwrap_err().to_string();
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        assert_eq!(site.calls(), calls);
        assert_eq!((site.file("lock").exists(), site.file("published").exists()), (open, false));
    }
}

#[test]
fn unwritable_trees_abort_the_transaction() {
    let site = Site::new();
    let elsewhere = CvmfsServer { mounts: site.file("no-mounts"), program: site.server.program.clone() };
    let message = elsewhere.publish(&bundle(b"m", 1), FQRN, &[]).unwrap_err().to_string();
    assert!(message.contains("no-mounts"), "{message}");
    assert_eq!(site.calls(), ["transaction R", "abort -f R"]);
}

#[test]
fn foreign_transactions_are_not_aborted() {
    let site = Site::new();
    std::fs::write(site.file("lock"), "").unwrap();
    let message = site.publish(&bundle(b"m", 1), &[]).unwrap_err().to_string();
    assert!(message.contains("another transaction is already open"), "{message}");
    assert_eq!(site.calls(), ["transaction R"]);
    assert!(site.file("lock").exists());
}

#[test]
fn invalid_input_opens_no_transaction() {
    let site = Site::new();
    for bad in ["unpacked", "../x.y", "-f", "a.b/c", ""] {
        assert!(matches!(site.server.publish(&bundle(b"m", 1), bad, &[]), Err(PublishError::Fqrn(_))), "{bad}");
    }
    let bad_pack = [site.file("no.pack")];
    assert!(matches!(site.publish(&bundle(b"m", 1), &bad_pack), Err(PublishError::File(_))));
    assert!(site.calls().is_empty());

    let absent = CvmfsServer { program: site.file("absent").into(), mounts: site.file("cvmfs") };
    let message = absent.publish(&bundle(b"m", 1), FQRN, &[]).unwrap_err().to_string();
    assert!(message.contains("it is not installed"), "{message}");
}
