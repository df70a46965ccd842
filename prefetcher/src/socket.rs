//! The Unix socket: there with its final permissions or not at all, and never taken from a daemon that lives.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tracing::debug;

/// A listening socket, removed when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: (u64, u64),
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers there.
    #[error("another daemon is listening on {0}; stop it, or configure another `socket` for this one")]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{0} is there and is no socket; remove it, or configure another `socket`")]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} the socket {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Socket {
    /// Listens on `path` with the permissions `mode`. Makes the directory if needed; replaces the socket of a daemon
    /// that died.
    pub fn bind(path: &Path, mode: u32) -> Result<(Self, UnixListener), SocketError> {
        let failed = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_owned())),
            Ok(_) => debug!(path = %path.display(), "replacing the socket of a daemon that died"),
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
        fs::set_permissions(&aside, fs::Permissions::from_mode(mode)).map_err(failed("set the permissions of"))?;
        fs::rename(&aside, path).map_err(failed("name"))?;
        listener.set_nonblocking(true).map_err(failed("use"))?;
        let inode = inode(path).map_err(failed("look at"))?;
        Ok((Self { path: path.to_owned(), inode }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Perhaps a successor has it already.
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

    #[test]
    fn a_living_daemons_socket_is_not_taken_a_dead_ones_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/s.sock");
        let (socket, listener) = Socket::bind(&path, 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(matches!(Socket::bind(&path, 0o660), Err(SocketError::InUse(_))));
        // As after kill -9: nobody listens, the name stays.
        drop(listener);
        let (successor, _listener) = Socket::bind(&path, 0o660).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(successor);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(Socket::bind(&path, 0o660), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }
}
