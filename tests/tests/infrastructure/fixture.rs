//! The repository written by the real server tools, served and mounted.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use testbed::client::{Client, ClientSpec};
use testbed::namespace::SiteDirectory;
use testbed::web::Origin;

pub(crate) const FQRN: &str = "unpacked.fixture.test";

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixture")
}

/// One path, as the real client showed it.
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) mode: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    pub(crate) nlink: u64,
    pub(crate) target: Option<String>,
    pub(crate) sha256: Option<String>,
    #[serde(rename = "user.hash")]
    pub(crate) hash: Option<String>,
    #[serde(rename = "user.compression")]
    pub(crate) compression: Option<String>,
    #[serde(rename = "user.chunks")]
    pub(crate) chunks: Option<String>,
    #[serde(rename = "user.chunk_list")]
    pub(crate) chunk_list: Option<Vec<(String, String, String)>>,
}

pub(crate) fn listing() -> Vec<Listed> {
    let text = std::fs::read_to_string(directory().join("listing.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The listed file whose path ends in `end`.
pub(crate) fn listed(end: &str) -> Listed {
    listing().into_iter().find(|listed| listed.path.ends_with(end)).unwrap()
}

/// A mount of the repository in a web root.
pub(crate) fn spec(site: &SiteDirectory, server: std::net::SocketAddr) -> ClientSpec {
    ClientSpec {
        mount_point: site.path().join("cvmfs"),
        cache: site.path().join("cache"),
        url: format!("http://{server}/{FQRN}"),
        proxy: None,
        public_key: directory().join(format!("{FQRN}.pub")),
        run_directory: site.path().join("run"),
    }
}

/// The fixture mounted straight from an origin.
pub(crate) fn mount(site: &SiteDirectory) -> (Origin, Client) {
    let origin = Origin::start(&directory()).unwrap();
    let client = Client::start(&spec(site, origin.address_for("client").unwrap())).unwrap();
    (origin, client)
}

/// Where `listed` is below the mount.
pub(crate) fn path_of(client: &Client, listed: &Listed) -> PathBuf {
    client.mount_point().join(listed.path.trim_start_matches('/'))
}

/// The value of an extended attribute; none if there is no such attribute (ENODATA). Other errors are failures.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<String> {
    xattr::get(path, name).unwrap().map(|value| String::from_utf8(value).unwrap())
}
