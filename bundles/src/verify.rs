//! Checking that a server has the objects of a bundle.

use futures::{StreamExt, stream};

use crate::bundle::{Bundle, BundleObject, ObjectIndex};
use crate::cvmfs::{CvmfsError, Server};

/// How thoroughly to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Request the size of each object.
    Size,
    /// Fetch each object, and check its hash and the size of its content.
    Content,
}

/// An object that is not as the bundle says.
#[derive(Debug)]
pub struct Fault {
    /// The object.
    pub object: ObjectIndex,
    /// What is wrong with it.
    pub error: CvmfsError,
}

/// How often an object is requested before a failed transfer counts as a fault.
const ATTEMPTS: usize = 3;

/// Checks the objects of `bundle`, `concurrency` at a time, and returns the faults in the order of the bundle.
///
/// `server_of` maps a repository name to its server; objects of repositories without one are not checked. Memory use
/// depends on `concurrency` only, however large the objects are.
pub async fn verify<'a>(
    bundle: &'a Bundle,
    server_of: impl Fn(&str) -> Option<&'a Server>,
    depth: Depth,
    concurrency: usize,
) -> Vec<Fault> {
    let with_server = bundle.indices().filter_map(|index| {
        let object = bundle.object(index);
        Some((index, object, server_of(bundle.repository_of(object))?))
    });
    let checks = stream::iter(with_server).map(|(index, object, server)| async move {
        let error = check(object, server, depth).await.err()?;
        Some(Fault { object: index, error })
    });
    let mut faults: Vec<_> = checks.buffer_unordered(concurrency.max(1)).filter_map(std::future::ready).collect().await;
    faults.sort_by_key(|fault| fault.object);
    faults
}

async fn check(object: &BundleObject, server: &Server, depth: Depth) -> Result<(), CvmfsError> {
    let BundleObject { hash, kind, stored_size, raw_size, .. } = object;
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        result = match depth {
            Depth::Size => server.check_size(hash, *kind, *stored_size).await,
            Depth::Content => server.check_content(hash, *kind, *stored_size, *raw_size).await,
        };
        if !matches!(result, Err(CvmfsError::Transfer { .. })) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::image::{ChainId, Digest, ImageId};
    use crate::object::ContentHash;
    use crate::path::RootPath;

    fn zlib(raw: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap()
    }

    fn object(stored: &[u8], raw: usize) -> BundleObject {
        let object = BundleObject::file(ContentHash::sha1_of(stored), raw as u64, RootPath::new("/some/file").unwrap());
        BundleObject { stored_size: stored.len() as u64, ..object }
    }

    /// A server that answers one request per connection with the file of that path.
    async fn serve(files: HashMap<String, Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let files = Arc::new(files);
        let url = format!("http://{}/cvmfs/a.b", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let files = files.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(connection.read_u8().await.unwrap());
                    }
                    let request = String::from_utf8(request).unwrap();
                    let (method, path) = (request.split(' ').next().unwrap(), request.split(' ').nth(1).unwrap());
                    let file = files.get(path.trim_start_matches("/cvmfs/a.b/"));
                    let status = if file.is_some() { "200 OK" } else { "404 Not Found" };
                    let body = file.cloned().unwrap_or_default();
                    let head =
                        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    connection.write_all(head.as_bytes()).await.unwrap();
                    if method == "GET" {
                        connection.write_all(&body).await.unwrap();
                    }
                });
            }
        });
        Server::new(&url, None).unwrap()
    }

    #[tokio::test]
    async fn faults_are_found_at_the_depth_that_shows_them() {
        let stored: Vec<_> = (0..6u8).map(|n| zlib(&[n; 1000])).collect();
        let mut objects: Vec<_> = stored.iter().map(|stored| object(stored, 1000)).collect();
        let mut files: HashMap<_, _> =
            objects.iter().zip(&stored).map(|(o, s)| (o.hash.url_path(o.kind), s.clone())).collect();
        let path = |n: usize| objects[n].hash.url_path(objects[n].kind);
        files.remove(&path(1));
        files.get_mut(&path(2)).unwrap().push(0);
        files.get_mut(&path(3)).unwrap()[10] ^= 1;
        objects[4].raw_size = 999;
        // An object whose stored size the bundle does not have.
        objects[5].stored_size = 0;
        let server = serve(files).await;
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: "x".into() };
        let bundle = Bundle { objects, ..Bundle::new(image, "a.b") };
        for (depth, expected) in [(Depth::Size, &[1, 2][..]), (Depth::Content, &[1, 2, 3, 4])] {
            let faults = verify(&bundle, |name| (name == "a.b").then_some(&server), depth, 3).await;
            assert_eq!(faults.iter().map(|fault| fault.object.as_usize()).collect::<Vec<_>>(), expected, "{faults:?}");
        }
        assert!(verify(&bundle, |_| None, Depth::Content, 3).await.is_empty());
    }

    #[tokio::test]
    async fn an_unreachable_server_is_a_fault_of_each_object() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let server = Server::new(&format!("http://{port}/cvmfs/a.b"), None).unwrap();
        let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: "x".into() };
        let bundle = Bundle { objects: vec![object(&zlib(b"x"), 1)], ..Bundle::new(image, "a.b") };
        let faults = verify(&bundle, |_| Some(&server), Depth::Size, 1).await;
        assert!(matches!(faults[..], [Fault { error: CvmfsError::Transfer { .. }, .. }]), "{faults:?}");
    }
}
