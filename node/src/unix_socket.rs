//! A daemon's Unix socket.
//!
//! The socket appears under its name only when it listens with its final owner and permissions. A socket of a running daemon is
//! never replaced; one that a crashed daemon left behind is. Dropping a [`Socket`] removes the name, unless another
//! daemon has taken it since.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use tracing::debug;

/// The name of a listening socket, removed when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: (u64, u64),
}

/// Who may connect to a socket.
#[derive(Debug, Clone)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner, if not the user that the daemon runs as.
    pub owner: Option<Uid>,
    /// Group, if not the group that the daemon runs as.
    pub group: Option<Gid>,
}

/// Why a daemon cannot listen on its socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A running daemon responds on this socket.
    #[error("another daemon is listening on {0}; stop it, or configure another `socket` for this one")]
    InUse(PathBuf),
    /// The path exists and is not a socket.
    #[error("{0} exists and is not a socket; remove it, or configure another `socket`")]
    NotASocket(PathBuf),
    /// The configuration names a user or group that does not exist.
    #[error("{key}: {name:?} does not exist on this machine")]
    Unknown {
        /// Key of the configuration.
        key: &'static str,
        /// Its value.
        name: String,
    },
    /// Error of the operating system.
    #[error("cannot {action} the socket {path}: {source}")]
    Io {
        /// Operation that failed, a verb.
        action: &'static str,
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

impl Access {
    /// Only the user that the daemon runs as.
    pub fn owner_only() -> Self {
        Self { mode: 0o600, owner: None, group: None }
    }

    /// The values of `socket_mode`, `socket_owner` and `socket_group`; users and groups are names or numbers.
    pub fn new(mode: u32, owner: Option<&str>, group: Option<&str>) -> Result<Self, SocketError> {
        let by_name = |name: &str| Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
        let owner = number("socket_owner", owner, by_name)?.map(Uid::from_raw);
        let by_name = |name: &str| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
        let group = number("socket_group", group, by_name)?.map(Gid::from_raw);
        Ok(Self { mode, owner, group })
    }
}

fn number(
    key: &'static str,
    name: Option<&str>,
    by_name: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<Option<u32>, SocketError> {
    let Some(name) = name else { return Ok(None) };
    let found = name.parse().ok().or_else(|| by_name(name).ok().flatten());
    found.map(Some).ok_or_else(|| SocketError::Unknown { key, name: name.to_owned() })
}

impl Socket {
    /// Listens on `path`. Creates the directory if needed and replaces the socket of a daemon that crashed. The listener is
    /// non-blocking, as tokio wants it.
    pub fn bind(path: &Path, access: &Access) -> Result<(Self, UnixListener), SocketError> {
        let failed = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_owned())),
            Ok(_) => debug!(path = %path.display(), "replacing the socket of a daemon that crashed"),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(failed("make the directory of"))?;
            }
            Err(e) => return Err(failed("look at")(e)),
        }
        // Bound beside its place and renamed, so that nobody connects before the permissions are set.
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        match fs::remove_file(&aside) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed("remove a left-over of")(e)),
            _ => {}
        }
        let listener = UnixListener::bind(&aside).map_err(failed("bind"))?;
        if access.owner.is_some() || access.group.is_some() {
            std::os::unix::fs::chown(&aside, access.owner.map(Uid::as_raw), access.group.map(Gid::as_raw))
                .map_err(failed("give another owner or group to"))?;
        }
        fs::set_permissions(&aside, fs::Permissions::from_mode(access.mode))
            .map_err(failed("set the permissions of"))?;
        fs::rename(&aside, path).map_err(failed("name"))?;
        listener.set_nonblocking(true).map_err(failed("use"))?;
        let inode = inode(path).map_err(failed("look at"))?;
        Ok((Self { path: path.to_owned(), inode }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another daemon may have taken the path since.
        if inode(&self.path).is_ok_and(|now| now == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            debug!(path = %self.path.display(), %error, "socket not removed");
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn access(mode: u32) -> Access {
        Access { mode, owner: None, group: None }
    }

    #[test]
    fn owner_and_group_are_names_or_numbers() {
        let find = |name: Option<&str>| {
            number("socket_owner", name, |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
        };
        assert_eq!(find(None).unwrap(), None);
        assert_eq!(find(Some("root")).unwrap(), Some(0));
        assert_eq!(find(Some("4711")).unwrap(), Some(4711));
        let message = find(Some("no such user")).unwrap_err().to_string();
        assert_eq!(message, "socket_owner: \"no such user\" does not exist on this machine");
        // Whoever runs the test may give a socket to its own user and group.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let (owner, group) = (Some(Uid::current()), Some(Gid::current()));
        let _socket = Socket::bind(&path, &Access { mode: 0o600, owner, group }).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((Some(found.uid()), Some(found.gid())), (owner.map(Uid::as_raw), group.map(Gid::as_raw)));
    }

    #[test]
    fn only_the_socket_of_a_dead_daemon_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/s.sock");
        let (socket, listener) = Socket::bind(&path, &access(0o640)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(matches!(Socket::bind(&path, &access(0o660)), Err(SocketError::InUse(_))));
        // As after kill -9: nobody listens, the name stays.
        drop(listener);
        let (successor, _listener) = Socket::bind(&path, &access(0o660)).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(successor);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_at_the_path_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(Socket::bind(&path, &access(0o660)), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }
}
