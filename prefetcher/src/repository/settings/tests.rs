#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

const NAME: &str = "unpacked.cern.ch";

/// What a client with `local` as its configuration makes of a `[[repositories]]` with `more` lines.
pub(crate) fn settings(local: &str, more: &str) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("mount")).unwrap();
    if local != "absent" {
        std::fs::create_dir(dir.path().join("cvmfs")).unwrap();
        std::fs::write(dir.path().join("cvmfs/default.local"), local).unwrap();
    }
    let (root, mount) = (dir.path().join("cvmfs"), dir.path().join("mount"));
    let text = format!("client_config = {root:?}\n[[repositories]]\nname = {NAME:?}\nmount = {mount:?}\n{more}");
    let config = Config::parse(&text, Path::new("test.toml")).unwrap();
    let AllSettings { mut settings, mut errors } = Settings::all(&config, &client_of(&config))?;
    errors.pop().map_or_else(|| Ok(settings.remove(0)), Err)
}

const CLIENT: &str = "CVMFS_SERVER_URL=\"http://one/cvmfs/@fqrn@;http://two/cvmfs/@fqrn@\"
CVMFS_HTTP_PROXY=\"http://a:3128|http://b:3128;DIRECT\"
CVMFS_TIMEOUT=3
CVMFS_CACHE_BASE=/nonexistent
CVMFS_SHARED_CACHE=yes
CVMFS_QUOTA_LIMIT=4000
";
const BY_HAND: &str = "servers = [\"http://hand/@org@\"]\ncache = \"/nonexistent/hand\"\n";

#[test]
fn unset_values_are_those_of_the_client() {
    let found = settings(CLIENT, "").unwrap();
    assert_eq!(found.upstream.servers, [format!("http://one/cvmfs/{NAME}"), format!("http://two/cvmfs/{NAME}")]);
    assert_eq!(found.upstream.proxies.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((found.upstream.policy.timeout.as_secs(), found.upstream.policy.timeout_direct.as_secs()), (3, 10));
    let directory = found.choice.directory.unwrap();
    assert_eq!((found.choice.kind, directory.path), (Kind::Managed, PathBuf::from("/nonexistent/shared")));
    assert_eq!((directory.quota, found.notes.len()), (Some(4000 * MIB), 0));
}

#[test]
fn values_set_in_the_daemons_configuration_win() {
    for local in ["absent", CLIENT, "ls"] {
        let found = settings(local, BY_HAND).unwrap();
        assert_eq!(found.upstream.servers, ["http://hand/unpacked"]);
        assert_eq!(found.upstream.proxies, vec![vec![Proxy::Direct]], "{local}");
        assert_eq!((found.upstream.policy.timeout.as_secs(), found.upstream.policy.retries), (10, 3));
        let directory = found.choice.directory.unwrap();
        assert_eq!((found.choice.kind, directory.quota), (Kind::Managed, None));
        assert_eq!(directory.workspace, Path::new("/nonexistent/hand"));
        assert_eq!(found.notes.len(), usize::from(local == "ls"), "{:?}", found.notes);
    }
    // The client's own cache by hand: what the client says of it holds.
    let found = settings(CLIENT, "cache = \"/nonexistent/shared\"\nproxy = \"http://c:1\"").unwrap();
    assert_eq!(found.choice.directory.unwrap().quota, Some(4000 * MIB));
    assert_eq!(found.upstream.proxies, vec![vec![Proxy::Via("http://c:1".into())]]);
    let more = format!("{BY_HAND}workspace = \"/w\"\nquota_mb = 7\n");
    let directory = settings(CLIENT, &more).unwrap().choice.directory.unwrap();
    assert_eq!((directory.workspace.as_path(), directory.quota), (Path::new("/w"), Some(7 * MIB)));
    assert!(directory.has_cache_manager(), "a quota is assumed if unknown");
    let uncounted = settings("absent", &format!("{BY_HAND}quota_mb = 0\n")).unwrap().choice.directory.unwrap();
    assert!(!uncounted.has_cache_manager());
    for (destination, kind) in [("alien", Kind::Alien), ("lower", Kind::Lower), ("mount", Kind::Mount)] {
        let found = settings("absent", &format!("{BY_HAND}destination = {destination:?}")).unwrap();
        assert_eq!(found.choice.kind, kind);
    }
}

#[test]
fn without_servers_or_proxies_the_client_fetches() {
    for (local, expected) in [
        ("absent", "no CVMFS client is configured there"),
        ("", "no CVMFS client is mounted there"),
        ("CVMFS_SERVER_URL=\"http://one/@fqrn@\"", "no proxy is configured"),
        ("CVMFS_SERVER_URL=\"http://one/@fqrn@\"\nCVMFS_HTTP_PROXY=auto", "configured automatically"),
        ("CVMFS_SERVER_URL=one", "not a URL"),
        ("A=$(hostname)", "default.local:1: "),
    ] {
        let found = settings(local, "").unwrap();
        assert_eq!((found.choice.kind, found.upstream.servers.len()), (Kind::Mount, 0), "{local}");
        let notes = found.notes.join("; ");
        assert!(notes.contains(expected), "{local}: {notes}");
    }
}

#[test]
fn an_error_names_the_missing_key() {
    for (local, more, expected) in [
        ("absent", "destination = \"managed\"\ncache = \"/c\"", "set servers = [...]"),
        ("absent", "destination = \"alien\"\nservers = [\"http://one/x\"]", "set cache = "),
    ] {
        let message = settings(local, more).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(NAME), "{message}");
    }
    let dir = tempfile::tempdir().unwrap();
    let all = |local: Option<&str>| {
        std::fs::write(dir.path().join("default.local"), local.unwrap_or_default()).unwrap();
        let text = format!("client_config = {:?}\n", dir.path());
        let config = Config::parse(&text, Path::new("test.toml")).unwrap();
        Settings::all(&config, &client_of(&config))
    };
    assert!(all(None).unwrap_err().to_string().contains("add a [[repositories]]"));
    let named = all(Some(&format!("{CLIENT}CVMFS_REPOSITORIES={NAME},other.cern.ch"))).unwrap();
    assert_eq!(named.settings.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), [NAME, "other.cern.ch"]);
    // A file that only a shell can read may be readable later.
    let unknown = all(Some("A=$(hostname)")).unwrap();
    assert!(unknown.settings.is_empty() && unknown.errors[0].to_string().contains("are unknown"), "{unknown:?}");
}

#[test]
fn a_repository_that_cannot_be_served_leaves_the_others() {
    let text = format!(
        "client_config = \"/nonexistent\"\n[[repositories]]\nname = \"bad.cern.ch\"\ndestination = \"managed\"\n\
         [[repositories]]\nname = {NAME:?}\n{BY_HAND}"
    );
    let config = Config::parse(&text, Path::new("test.toml")).unwrap();
    let all = Settings::all(&config, &client_of(&config)).unwrap();
    assert_eq!(all.settings.iter().map(|settings| settings.name.as_str()).collect::<Vec<_>>(), [NAME]);
    assert!(all.errors[0].to_string().contains("bad.cern.ch"), "{:?}", all.errors);
}

#[test]
fn settings_are_provisional_while_something_is_missing() {
    for (local, more, expected) in [
        (CLIENT, "", false),
        ("absent", BY_HAND, false),
        ("absent", "", true),
        ("ls", BY_HAND, true),
        // As it is meant to be.
        ("CVMFS_SERVER_URL=http://one/@fqrn@\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_SHARED_CACHE=no", "", false),
        (CLIENT, "destination = \"mount\"", false),
    ] {
        let found = settings(local, more).unwrap();
        assert_eq!(found.are_provisional(), expected, "{local} {more}: {found:?}");
    }
}
