//! The cache that the client's parameters describe.
//!
//! A client has one cache, made of one or more instances: `CVMFS_CACHE_PRIMARY` names the outermost, without it there is
//! one of the type `posix` with parameters of its own short names. Source: `cvmfs/mountpoint.cc` of CVMFS.

use std::path::PathBuf;

use super::shell::Values;

/// What a client without `CVMFS_CACHE_BASE` uses.
const DEFAULT_BASE: &str = "/var/lib/cvmfs";
/// What a client without a quota limit uses, in MB.
const DEFAULT_QUOTA_MB: i64 = 1024;
/// Directory of the clients' sockets if `CVMFS_RELOAD_SOCKETS` is not set.
const DEFAULT_SOCKETS: &str = "/var/run/cvmfs";
/// The instance whose parameters have short names.
const DEFAULT_INSTANCE: &str = "default";
/// Maximum nesting of tiered caches; more is a circle, which the client refuses.
const MAX_TIERS: usize = 8;
const MIB: u64 = 1 << 20;

/// The cache of a client, as far as it can be filled from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCache {
    /// A directory.
    Directory(CacheDirectory),
    /// The lower tier of a tiered cache, from which the client copies what it uses.
    LowerTier(CacheDirectory),
    /// A cache that cannot be written from outside, and why.
    Closed(String),
}

/// A cache of the type `posix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDirectory {
    /// Contains `00` to `ff` and `txn`.
    pub path: PathBuf,
    /// Contains the FIFO of the cache manager, if there is one.
    pub workspace: PathBuf,
    /// Whether the clients of all repositories use it.
    pub shared: bool,
    /// Whether it is filled by others and never cleaned by the client.
    pub alien: bool,
    /// Maximum number of bytes; `None` if there is no limit, or the limit is unknown.
    pub quota: Option<u64>,
    /// Whether the client keeps a quota. Assumed if unknown.
    pub counted: bool,
    /// Exists while `cvmfs_config` reloads the clients or wipes their caches: see [`pause_marker`].
    pub pause: PathBuf,
}

impl CacheDirectory {
    /// Whether its quota is kept by a separate process, the cache manager, which reads a FIFO.
    pub fn has_cache_manager(&self) -> bool {
        self.shared && !self.alien && self.counted
    }

    /// Whether its quota is kept inside the client, where objects cannot be registered from outside.
    pub fn has_inner_quota(&self) -> bool {
        !self.shared && !self.alien && self.counted
    }
}

/// The cache of the client for `fqrn`.
pub fn client_cache(values: &Values, fqrn: &str) -> ClientCache {
    let primary = values.get("CVMFS_CACHE_PRIMARY").filter(|name| !name.is_empty());
    let mut instance = primary.map_or(DEFAULT_INSTANCE, String::as_str);
    let mut lower = false;
    for _ in 0..MAX_TIERS {
        let kind = match instance {
            DEFAULT_INSTANCE => "posix",
            _ => values.get(&parameter(instance, "TYPE", values)).map_or("", String::as_str),
        };
        match kind {
            "posix" if lower => return ClientCache::LowerTier(directory(values, instance, fqrn)),
            "posix" => return ClientCache::Directory(directory(values, instance, fqrn)),
            "tiered" => match values.get(&parameter(instance, "LOWER", values)) {
                Some(name) => (instance, lower) = (name, true),
                None => return ClientCache::Closed(format!("the tiered cache {instance:?} names no lower tier")),
            },
            "ram" => return ClientCache::Closed(format!("the cache {instance:?} is in the client's memory")),
            "external" => return ClientCache::Closed(format!("the cache {instance:?} is a plugin")),
            other => return ClientCache::Closed(format!("the cache {instance:?} is of the unknown type {other:?}")),
        }
    }
    ClientCache::Closed("the tiers of the cache go round in a circle".into())
}

/// The name of an instance's parameter; the default instance has older, shorter names for some.
fn parameter(instance: &str, what: &str, values: &Values) -> String {
    if instance != DEFAULT_INSTANCE {
        return format!("CVMFS_CACHE_{instance}_{what}");
    }
    let name = format!("CVMFS_CACHE_{what}");
    match what {
        _ if values.contains_key(&name) => name,
        "SHARED" => "CVMFS_SHARED_CACHE".into(),
        "ALIEN" => "CVMFS_ALIEN_CACHE".into(),
        "QUOTA_LIMIT" => "CVMFS_QUOTA_LIMIT".into(),
        _ => name,
    }
}

fn directory(values: &Values, instance: &str, fqrn: &str) -> CacheDirectory {
    let get = |what: &str| values.get(&parameter(instance, what, values)).filter(|value| !value.is_empty());
    let alien = get("ALIEN");
    let shared = get("SHARED").is_some_and(|value| is_on(value));
    let base = PathBuf::from(get("BASE").map_or(DEFAULT_BASE, String::as_str));
    let own = base.join(if shared { "shared" } else { fqrn });
    let path = alien.or_else(|| get("DIR")).map_or(own, PathBuf::from);
    let workspace = get("WORKSPACE").or_else(|| values.get("CVMFS_WORKSPACE").filter(|value| !value.is_empty()));
    let quota_mb = get("QUOTA_LIMIT").map_or(DEFAULT_QUOTA_MB, |value| value.trim().parse().unwrap_or(0));
    let quota = u64::try_from(quota_mb).ok().filter(|mb| *mb > 0).map(|mb| mb.saturating_mul(MIB));
    CacheDirectory {
        workspace: workspace.map_or_else(|| path.clone(), PathBuf::from),
        path,
        shared,
        alien: alien.is_some(),
        quota,
        counted: quota.is_some(),
        pause: pause_marker(Some(values)),
    }
}

/// The directory that `cvmfs_config reload`, `wipecache` and similar make at their beginning and remove at their end. While it
/// exists, no repository is mounted, and a cache may be removed. Older versions make a file.
pub fn pause_marker(values: Option<&Values>) -> PathBuf {
    let sockets = values.and_then(|values| values.get("CVMFS_RELOAD_SOCKETS")).filter(|value| !value.is_empty());
    PathBuf::from(sockets.map_or(DEFAULT_SOCKETS, String::as_str)).join("cvmfs.pause")
}

fn is_on(value: &str) -> bool {
    ["yes", "on", "1"].iter().any(|on| value.eq_ignore_ascii_case(on))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOCK: &[(&str, &str)] =
        &[("CVMFS_CACHE_BASE", "/var/lib/cvmfs"), ("CVMFS_SHARED_CACHE", "yes"), ("CVMFS_QUOTA_LIMIT", "4000")];
    const TIERED: &[(&str, &str)] = &[
        ("CVMFS_CACHE_PRIMARY", "both"),
        ("CVMFS_CACHE_both_TYPE", "tiered"),
        ("CVMFS_CACHE_both_UPPER", "up"),
        ("CVMFS_CACHE_both_LOWER", "down"),
        ("CVMFS_CACHE_both_LOWER_READONLY", "yes"),
        ("CVMFS_CACHE_up_TYPE", "ram"),
        ("CVMFS_CACHE_down_TYPE", "posix"),
        ("CVMFS_CACHE_down_ALIEN", "/srv/lower"),
        ("CVMFS_CACHE_down_SHARED", "no"),
        ("CVMFS_CACHE_down_QUOTA_LIMIT", "-1"),
    ];

    fn cache(stock: &[(&str, &str)], more: &[(&str, &str)]) -> ClientCache {
        let pairs = stock.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        client_cache(&pairs.collect(), "unpacked.cern.ch")
    }

    fn at(path: &str, workspace: &str, shared: bool, alien: bool, quota_mb: u64) -> CacheDirectory {
        let quota = (quota_mb > 0).then_some(quota_mb * MIB);
        CacheDirectory {
            path: path.into(),
            workspace: workspace.into(),
            shared,
            alien,
            quota,
            counted: quota.is_some(),
            pause: "/var/run/cvmfs/cvmfs.pause".into(),
        }
    }

    #[test]
    fn the_pause_marker_is_beside_the_clients_sockets() {
        let ClientCache::Directory(found) = cache(STOCK, &[("CVMFS_RELOAD_SOCKETS", "/run/sockets")]) else {
            panic!("a stock cache is a directory")
        };
        assert_eq!(found.pause, PathBuf::from("/run/sockets/cvmfs.pause"));
        assert_eq!(pause_marker(None), PathBuf::from("/var/run/cvmfs/cvmfs.pause"));
    }

    #[test]
    fn directories_are_those_of_the_client() {
        let shared = "/var/lib/cvmfs/shared";
        let own = "/var/lib/cvmfs/unpacked.cern.ch";
        let cases: &[(&[(&str, &str)], CacheDirectory)] = &[
            (&[], at(shared, shared, true, false, 4000)),
            (&[("CVMFS_CACHE_BASE", "/big")], at("/big/shared", "/big/shared", true, false, 4000)),
            (&[("CVMFS_SHARED_CACHE", "no")], at(own, own, false, false, 4000)),
            (&[("CVMFS_CACHE_DIR", "/c")], at("/c", "/c", true, false, 4000)),
            (&[("CVMFS_QUOTA_LIMIT", "-1")], at(shared, shared, true, false, 0)),
            (&[("CVMFS_WORKSPACE", "/run/w")], at(shared, "/run/w", true, false, 4000)),
            (&[("CVMFS_CACHE_WORKSPACE", "/w")], at(shared, "/w", true, false, 4000)),
            (
                &[("CVMFS_SHARED_CACHE", "no"), ("CVMFS_ALIEN_CACHE", "/srv/a"), ("CVMFS_QUOTA_LIMIT", "-1")],
                at("/srv/a", "/srv/a", false, true, 0),
            ),
        ];
        for (more, expected) in cases {
            assert_eq!(cache(STOCK, more), ClientCache::Directory(expected.clone()), "{more:?}");
        }
        assert_eq!(cache(&[], &[]), ClientCache::Directory(at(own, own, false, false, 1024)));
    }

    #[test]
    fn instances_are_followed_to_the_lower_tier() {
        let lower = at("/srv/lower", "/srv/lower", false, true, 0);
        assert_eq!(cache(TIERED, &[]), ClientCache::LowerTier(lower));
        let named = [("CVMFS_CACHE_PRIMARY", "x"), ("CVMFS_CACHE_x_TYPE", "posix"), ("CVMFS_CACHE_x_SHARED", "1")];
        let more = [("CVMFS_CACHE_x_BASE", "/x"), ("CVMFS_CACHE_x_QUOTA_LIMIT", "5")];
        let expected = at("/x/shared", "/x/shared", true, false, 5);
        assert_eq!(cache(&named, &more), ClientCache::Directory(expected));
    }

    #[test]
    fn caches_that_cannot_be_written_say_why() {
        let of_type = |kind| [("CVMFS_CACHE_PRIMARY", "x"), ("CVMFS_CACHE_x_TYPE", kind)];
        for (kind, expected) in [("ram", "memory"), ("external", "plugin"), ("tiered", "no lower"), ("", "unknown")] {
            let ClientCache::Closed(why) = cache(&of_type(kind), &[]) else { panic!("{kind}") };
            assert!(why.contains(expected), "{why}");
        }
        let circle = [("CVMFS_CACHE_x_LOWER", "x")];
        assert!(matches!(cache(&of_type("tiered"), &circle), ClientCache::Closed(why) if why.contains("circle")));
    }

    #[test]
    fn only_a_shared_cache_has_a_cache_manager() {
        for (shared, alien, quota, manager, inner) in [
            (true, false, 4000, true, false),
            (true, false, 0, false, false),
            (false, false, 4000, false, true),
            (false, true, 0, false, false),
        ] {
            let directory = at("/c", "/c", shared, alien, quota);
            assert_eq!((directory.has_cache_manager(), directory.has_inner_quota()), (manager, inner));
        }
    }
}
