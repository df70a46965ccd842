//! Serves and mounts the fixture, a repository of the real server.

use std::path::{Path, PathBuf};

use testbed::client::{Client, ClientSpec};
use testbed::fixture::public_key;
pub(crate) use testbed::fixture::{FQRN, Listed, directory, listing};
use testbed::namespace::SiteDirectory;
use testbed::web::Origin;

/// The listed file whose path ends in `end`.
pub(crate) fn listed(end: &str) -> Listed {
    listing().unwrap().into_iter().find(|listed| listed.path.ends_with(end)).unwrap()
}

/// Mounts the repository of a web root.
pub(crate) fn spec(site: &SiteDirectory, server: std::net::SocketAddr) -> ClientSpec {
    ClientSpec {
        mount_point: site.path().join("cvmfs"),
        cache: site.path().join("cache"),
        url: format!("http://{server}/{FQRN}"),
        proxy: None,
        public_key: public_key(),
        run_directory: site.path().join("run"),
    }
}

/// Mounts the fixture from an origin, without link and proxy.
pub(crate) fn mount(site: &SiteDirectory) -> (Origin, Client) {
    let origin = Origin::start(&directory()).unwrap();
    let client = Client::start(&spec(site, origin.address_for("client").unwrap())).unwrap();
    (origin, client)
}

/// The path of `listed` below the mount.
pub(crate) fn path_of(client: &Client, listed: &Listed) -> PathBuf {
    client.mount_point().join(listed.path.trim_start_matches('/'))
}

/// The value of an extended attribute; `None` without such an attribute (ENODATA). Other errors panic.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<String> {
    xattr::get(path, name).unwrap().map(|value| String::from_utf8(value).unwrap())
}
