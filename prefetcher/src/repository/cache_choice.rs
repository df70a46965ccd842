//! Which destination the objects of a repository have, and why.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use node::cvmfs_client::cache::{CacheDirectory, ClientCache};
use serde::{Deserialize, Serialize};

/// The kinds of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The client's own cache directory.
    Managed,
    /// An alien cache.
    Alien,
    /// The lower tier of a tiered cache.
    Lower,
    /// Reading through the mount.
    Mount,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Managed => "managed cache",
            Self::Alien => "alien cache",
            Self::Lower => "lower tier",
            Self::Mount => "through the mount",
        })
    }
}

/// A destination that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Kind of the destination.
    pub kind: Kind,
    /// Where it is. With [`Kind::Mount`], the client's cache, if that is known.
    pub directory: Option<CacheDirectory>,
    /// Why this one: a sentence for people.
    pub reason: String,
}

/// What this process may do with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Whose files are right there: its owner. `None` if it is not there.
    pub owner: Option<u32>,
    /// Who we are.
    pub user: u32,
    /// Whether we may make files in it.
    pub writable: bool,
}

impl Access {
    /// To the directory `path`, now.
    pub fn to(path: &Path) -> Self {
        use nix::unistd::{AccessFlags, access, geteuid};
        let owner = std::fs::metadata(path).ok().filter(|found| found.is_dir()).map(|found| found.uid());
        let writable = access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
        Self { owner, user: geteuid().as_raw(), writable }
    }

    /// Whether what we make there can be the owner's.
    fn as_owner(self) -> bool {
        self.user == 0 || self.owner.is_none_or(|owner| owner == self.user)
    }
}

/// Chooses for a client with `cache`. `access` tells about its directory; without servers nothing can be fetched.
pub fn choose(cache: &ClientCache, has_servers: bool, access: impl FnOnce(&Path) -> Access) -> Choice {
    let (found, lower) = match cache {
        ClientCache::Directory(found) => (found, false),
        ClientCache::LowerTier(found) => (found, true),
        ClientCache::Closed(why) => {
            let reason = format!("{why}, which nobody else can write to");
            return Choice { kind: Kind::Mount, directory: None, reason };
        }
    };
    let choice = |kind, reason: String| Choice { kind, directory: Some(found.clone()), reason };
    let path = found.path.display();
    if !has_servers {
        return choice(Kind::Mount, "no servers and proxies are known to fetch with".into());
    }
    if found.has_inner_quota() {
        let reason =
            format!("the cache {path} is the client's alone, and objects cannot be registered with its cache manager");
        return choice(Kind::Mount, reason);
    }
    let access = access(&found.path);
    let kind = match (lower, found.alien) {
        (true, _) => Kind::Lower,
        (false, true) => Kind::Alien,
        (false, false) => Kind::Managed,
    };
    let by_group = found.alien;
    match access.owner {
        Some(owner) if !by_group && !access.as_owner() => {
            let user = access.user;
            choice(Kind::Mount, format!("the cache {path} belongs to user {owner}, this daemon runs as {user}"))
        }
        Some(_) if !access.writable => {
            choice(Kind::Mount, format!("user {} must not write to the cache {path}", access.user))
        }
        _ => choice(kind, reason(kind, found)),
    }
}

fn reason(kind: Kind, found: &CacheDirectory) -> String {
    let quota = if found.has_cache_manager() {
        format!("its cache manager listens in {}", found.workspace.display())
    } else {
        "nobody keeps a quota there".to_owned()
    };
    let what = match kind {
        Kind::Lower => "the client reads what is in the lower tier",
        Kind::Alien => "the client has an alien cache, meant to be filled by others",
        Kind::Managed if found.shared => "the clients of all repositories share the cache",
        Kind::Managed | Kind::Mount => "the client has the cache for itself",
    };
    format!("{what}, and {quota}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Access = Access { owner: Some(7), user: 7, writable: true };

    fn directory(shared: bool, alien: bool, quota: Option<u64>) -> CacheDirectory {
        CacheDirectory {
            path: "/c".into(),
            workspace: "/w".into(),
            shared,
            alien,
            quota,
            counted: quota.is_some(),
            pause: "/p".into(),
        }
    }

    #[test]
    fn the_destination_depends_on_the_cache_and_our_access() {
        use ClientCache::{Closed, Directory, LowerTier};
        let shared = Directory(directory(true, false, Some(1)));
        let alien = Directory(directory(false, true, None));
        let lower = LowerTier(directory(false, true, None));
        let theirs = Access { owner: Some(8), ..OURS };
        let absent = Access { owner: None, writable: false, ..OURS };
        let read_only = Access { writable: false, ..OURS };
        let cases = [
            (&shared, true, OURS, Kind::Managed, "listens in /w"),
            (&shared, true, Access { user: 0, ..OURS }, Kind::Managed, "listens in /w"),
            (&shared, true, absent, Kind::Managed, "listens in /w"),
            (&shared, true, theirs, Kind::Mount, "belongs to user 8, this daemon runs as 7"),
            (&shared, true, read_only, Kind::Mount, "must not write"),
            (&shared, false, OURS, Kind::Mount, "no servers"),
            (&Directory(directory(true, false, None)), true, OURS, Kind::Managed, "nobody keeps a quota"),
            (&Directory(directory(false, false, None)), true, OURS, Kind::Managed, "for itself"),
            (&Directory(directory(false, false, Some(1))), true, OURS, Kind::Mount, "client's alone"),
            (&alien, true, OURS, Kind::Alien, "alien cache"),
            (&alien, true, theirs, Kind::Alien, "alien cache"),
            (&alien, true, read_only, Kind::Mount, "must not write"),
            (&lower, true, theirs, Kind::Lower, "lower tier"),
            (&LowerTier(directory(true, false, Some(1))), true, OURS, Kind::Lower, "listens in /w"),
            (&LowerTier(directory(true, false, Some(1))), true, theirs, Kind::Mount, "belongs to user 8"),
            (&Closed("the cache \"x\" is a plugin".into()), true, OURS, Kind::Mount, "is a plugin, which nobody"),
        ];
        for (cache, has_servers, access, kind, expected) in cases {
            let choice = choose(cache, has_servers, |_| access);
            assert_eq!(choice.kind, kind, "{cache:?} {access:?}: {}", choice.reason);
            assert!(choice.reason.contains(expected), "{}", choice.reason);
        }
    }
}
