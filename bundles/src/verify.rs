//! Whether a server has what a bundle names.

use futures::{StreamExt, stream};

use crate::bundle::{Bundle, BundleObject};
use crate::cvmfs::{CvmfsError, Server};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Ask for the size of each object.
    Size,
    /// Fetch each object, and check its hash and the size of its content.
    Content,
}

/// An object that is not as the bundle says.
#[derive(Debug)]
pub struct Fault {
    /// Its place in the bundle.
    pub place: usize,
    /// What is wrong.
    pub why: CvmfsError,
}

/// So often an object is asked for when the line fails.
const TRIES: usize = 3;

/// Checks all objects of `bundle`, so many at a time. `server_of` says where a repository is; what it has no server for is
/// not looked at. Memory is taken for what is under way only, however large the objects are. The faults come in order of
/// the bundle.
pub async fn verify<'a>(
    bundle: &'a Bundle,
    server_of: impl Fn(&str) -> Option<&'a Server>,
    depth: Depth,
    at_a_time: usize,
) -> Vec<Fault> {
    let wanted = bundle.objects.iter().enumerate();
    let wanted = wanted.filter_map(|(place, object)| Some((place, object, server_of(bundle.repository_of(object))?)));
    let checks = stream::iter(wanted).map(|(place, object, server)| async move {
        let why = check(object, server, depth).await.err()?;
        Some(Fault { place, why })
    });
    let mut faults: Vec<_> = checks.buffer_unordered(at_a_time.max(1)).filter_map(std::future::ready).collect().await;
    faults.sort_by_key(|fault| fault.place);
    faults
}

async fn check(object: &BundleObject, server: &Server, depth: Depth) -> Result<(), CvmfsError> {
    let mut result = Ok(());
    for _ in 0..TRIES {
        result = match depth {
            Depth::Size => server.check_size(object).await,
            Depth::Content => server.check_content(object).await,
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

    /// Answers each connection's one request with the file of that path.
    async fn serve(files: HashMap<String, Vec<u8>>) -> Server {
        let (listener, files) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(files));
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
    async fn each_fault_is_found_at_the_depth_that_can_see_it() {
        let stored: Vec<_> = (0..6u8).map(|n| zlib(&[n; 1000])).collect();
        let mut objects: Vec<_> = stored.iter().map(|stored| object(stored, 1000)).collect();
        let mut files: HashMap<_, _> =
            objects.iter().zip(&stored).map(|(o, s)| (o.hash.url_path(o.kind), s.clone())).collect();
        let path = |n: usize| objects[n].hash.url_path(objects[n].kind);
        files.remove(&path(1));
        files.get_mut(&path(2)).unwrap().push(0);
        files.get_mut(&path(3)).unwrap()[10] ^= 1;
        objects[4].raw_size = 999;
        // Whose size the bundle does not tell.
        objects[5].stored_size = 0;
        let server = serve(files).await;
        let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: "x".into() };
        let bundle = Bundle { objects, ..Bundle::of(image, "a.b") };
        for (depth, expected) in [(Depth::Size, &[1, 2][..]), (Depth::Content, &[1, 2, 3, 4])] {
            let faults = verify(&bundle, |name| (name == "a.b").then_some(&server), depth, 3).await;
            assert_eq!(faults.iter().map(|fault| fault.place).collect::<Vec<_>>(), expected, "{faults:?}");
        }
        assert!(verify(&bundle, |_| None, Depth::Content, 3).await.is_empty());
    }

    #[tokio::test]
    async fn a_dead_server_is_a_fault_of_every_object() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let server = Server::new(&format!("http://{port}/cvmfs/a.b"), None).unwrap();
        let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: "x".into() };
        let bundle = Bundle { objects: vec![object(&zlib(b"x"), 1)], ..Bundle::of(image, "a.b") };
        let faults = verify(&bundle, |_| Some(&server), Depth::Size, 1).await;
        assert!(matches!(faults[..], [Fault { place: 0, why: CvmfsError::Transfer { .. } }]), "{faults:?}");
    }
}
