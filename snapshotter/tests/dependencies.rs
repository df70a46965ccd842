//! The snapshotter runs as root, so it links nothing that downloads or reads catalogs.
#![allow(clippy::unwrap_used)]

use std::process::Command;

const NOT_LINKED: [&str; 6] = ["prefetcher", "reqwest", "oci-client", "rusqlite", "rsa", "x509-cert"];

#[test]
fn the_snapshotter_links_neither_the_fetcher_nor_its_dependencies() {
    let tree = ["tree", "--package", "snapshotter", "--edges", "normal", "--prefix", "none", "--locked", "--offline"];
    let output = Command::new(env!("CARGO")).args(tree).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let linked = String::from_utf8(output.stdout).unwrap();
    assert!(linked.starts_with("snapshotter "), "{}", String::from_utf8_lossy(&output.stderr));
    let name_of = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let found: Vec<String> = linked.lines().map(name_of).filter(|name| NOT_LINKED.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "{found:?}");
}
