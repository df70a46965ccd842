//! The FUSE client against a repository of the real server and its listing by the real client.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use testbed::client::Client;
use testbed::namespace::{self, SiteDirectory};
use testbed::publisher::Repository;
use testbed::web::{Fault, LinkEmulator, LinkSpec, Origin, Squid};

use super::fixture::{self, FQRN, Listed, listed, listing, path_of, xattr};

/// Ends of paths in the fixture.
const MODEL: &str = ".flat/b0/b0d4913f313bf0e18b6ec2d81d84ff748bdd415a26cb32243978b22b248567bc/app/model.bin";
const SCRIPT: &str = "layerfs/app/run.sh";

fn paths_below(root: &Path, directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        found.insert(format!("/{}", entry.path().strip_prefix(root).unwrap().to_str().unwrap()));
        if entry.file_type().unwrap().is_dir() {
            paths_below(root, &entry.path(), found);
        }
    }
}

fn assert_same(listed: &Listed, path: &Path) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    let mode = listed.mode().unwrap();
    assert_eq!(format!("{:o}", metadata.permissions().mode()), format!("{mode:o}"), "mode of {}", listed.path);
    let found = (metadata.uid(), metadata.gid(), metadata.len(), metadata.mtime(), metadata.nlink());
    assert_eq!(found, (listed.uid, listed.gid, listed.size, listed.mtime, listed.nlink), "{}", listed.path);
    if let Some(target) = &listed.target {
        assert_eq!(std::fs::read_link(path).unwrap().to_str().unwrap(), target);
        return;
    }
    for (name, expected) in
        [("user.hash", &listed.hash), ("user.compression", &listed.compression), ("user.chunks", &listed.chunks)]
    {
        assert_eq!(&xattr(path, name), expected, "{name} of {}", listed.path);
    }
    let list = listed.chunk_list.as_ref().map(|chunks| {
        let lines = chunks.iter().map(|[hash, offset, size]| format!("{hash},{offset},{size}\n"));
        format!("hash,offset,size\n{}", lines.collect::<String>())
    });
    assert_eq!(xattr(path, "user.chunk_list"), list, "chunks of {}", listed.path);
    if let Some(sha256) = &listed.sha256 {
        assert_eq!(&hex::encode(Sha256::digest(std::fs::read(path).unwrap())), sha256, "content of {}", listed.path);
    }
}

#[test]
fn every_path_of_the_fixture_looks_like_in_the_real_client() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (_origin, client) = fixture::mount(&site);
        let listing = listing()?;
        for listed in &listing {
            assert_same(listed, &path_of(&client, listed));
        }
        let mut found = BTreeSet::from(["/".to_owned()]);
        paths_below(client.mount_point(), client.mount_point(), &mut found);
        assert_eq!(found, listing.iter().map(|listed| listed.path.clone()).collect());
        Ok(())
    });
}

#[test]
fn the_mount_has_its_attributes_and_refuses_others_and_writes() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, client) = fixture::mount(&site);
        let root = client.mount_point();
        let manifest = std::fs::read(fixture::directory().join(FQRN).join(".cvmfspublished"))?;
        let manifest = String::from_utf8_lossy(&manifest);
        let line = |key: char| manifest.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let url = format!("http://{}/{FQRN}", origin.address_for("client")?);
        for (name, value) in [
            ("user.fqrn", Some(FQRN.to_owned())),
            ("user.revision", line('S')),
            ("user.root_hash", line('C')),
            ("user.host", Some(url)),
            ("user.proxy", Some("DIRECT".to_owned())),
            ("user.pid", None),
            ("user.hash", None),
            ("user.nonsense", None),
            ("trusted.overlay.opaque", None),
        ] {
            if name == "user.pid" {
                assert_eq!(xattr(root, name), Some(client.pid().to_string()));
                continue;
            }
            assert_eq!(xattr(root, name), value, "{name}");
        }
        let script = path_of(&client, &listed(SCRIPT));
        assert_eq!(xattr::list(&script)?.count(), 0);
        assert!(xattr::list(root)?.any(|name| name == "user.fqrn"));
        let error = std::fs::write(&script, "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EROFS as i32));
        assert!(!root.join("nothing").exists());
        Ok(())
    });
}

/// Requests for objects whose name ends in `suffix` (a hex digit otherwise).
fn objects(origin: &Origin, suffix: &str) -> Vec<String> {
    let paths = origin.requests().into_iter().map(|request| request.path);
    paths.filter(|path| path.contains("/data/") && path.ends_with(suffix)).collect()
}

fn file_in_cache(site: &SiteDirectory, hash: &str) -> std::path::PathBuf {
    site.path().join("cache").join(&hash[..2]).join(&hash[2..])
}

#[test]
fn an_object_is_fetched_once_and_stored_like_in_the_posix_cache() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, client) = fixture::mount(&site);
        let script = listed(SCRIPT);
        let path = path_of(&client, &script);
        std::fs::metadata(&path)?;
        origin.take_requests();
        // Simultaneous readers cause one download.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(std::fs::read(&path).unwrap().len() as u64, script.size));
            }
        });
        let hash = script.hash.unwrap();
        assert_eq!(
            origin.take_requests().into_iter().map(|request| request.path).collect::<Vec<_>>(),
            [format!("/{FQRN}/data/{}/{}", &hash[..2], &hash[2..])]
        );
        let cached = file_in_cache(&site, &hash);
        assert_eq!(std::fs::read(&cached)?, std::fs::read(&path)?);
        assert_eq!(std::fs::metadata(&cached)?.permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(site.path().join("cache/txn"))?.count(), 0);
        assert_eq!(std::fs::read_dir(site.path().join("cache"))?.count(), 257);
        assert_eq!(client.statistics()?.failures, 0);
        // After a remount, everything except the two root files comes from the cache.
        client.unmount()?;
        let client = Client::start(&fixture::spec(&site, origin.address_for("client")?))?;
        std::fs::read(path_of(&client, &listed(SCRIPT)))?;
        let paths: Vec<_> = origin.take_requests().into_iter().map(|request| request.path).collect();
        assert_eq!(paths, [format!("/{FQRN}/.cvmfspublished"), format!("/{FQRN}/.cvmfswhitelist")]);
        Ok(())
    });
}

#[test]
fn objects_and_catalogs_cached_by_others_need_no_request() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, client) = fixture::mount(&site);
        let script = listed(SCRIPT);
        // The root catalog is cached; those of the layers are not.
        let script_hash = script.hash.clone().unwrap();
        let data = fixture::directory().join(FQRN).join("data");
        for prefix in std::fs::read_dir(&data)? {
            let prefix = prefix?;
            for object in std::fs::read_dir(prefix.path())? {
                let object = object?;
                let name = object.file_name().into_string().unwrap();
                let hash = format!("{}{}", prefix.file_name().to_str().unwrap(), &name[..38]);
                if !name.ends_with('C') && hash != script_hash {
                    continue;
                }
                let mut content = Vec::new();
                std::io::copy(&mut flate2::read::ZlibDecoder::new(File::open(object.path())?), &mut content)?;
                let temporary = site.path().join("cache/txn/other");
                std::fs::write(&temporary, content)?;
                std::fs::rename(temporary, file_in_cache(&site, &hash))?;
            }
        }
        origin.take_requests();
        assert_eq!(hex::encode(Sha256::digest(std::fs::read(path_of(&client, &script))?)), script.sha256.unwrap());
        assert_eq!(origin.take_requests(), []);
        Ok(())
    });
}

#[test]
fn only_the_read_chunks_of_a_chunked_file_are_fetched() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, client) = fixture::mount(&site);
        let model = listed(MODEL);
        let path = path_of(&client, &model);
        let chunks = model.chunk_list.unwrap();
        let file = File::open(&path)?;
        assert_eq!(objects(&origin, "P"), Vec::<String>::new(), "an open alone fetches nothing");
        // The end of the file, so that the kernel does not read ahead.
        let mut tail = [0; 100];
        file.read_exact_at(&mut tail, model.size - 100)?;
        let fetched = objects(&origin, "P");
        assert!(!fetched.is_empty() && fetched.len() < chunks.len(), "{fetched:?}");
        let last = &chunks.last().unwrap()[0];
        assert!(fetched.contains(&format!("/{FQRN}/data/{}/{}P", &last[..2], &last[2..])));
        let whole = std::fs::read(&path)?;
        assert_eq!(whole[whole.len() - 100..], tail);
        let fetched = objects(&origin, "P");
        assert_eq!(fetched.len(), chunks.len(), "each chunk once: {fetched:?}");
        Ok(())
    });
}

#[test]
fn a_bad_object_is_an_io_error_and_never_enters_the_cache() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, client) = fixture::mount(&site);
        let script = listed(SCRIPT);
        let (path, hash) = (path_of(&client, &script), script.hash.clone().unwrap());
        std::fs::metadata(&path)?;
        for fault in [Fault::Garbage, Fault::Truncate(7), Fault::Status(404), Fault::Status(500)] {
            let failures = client.statistics()?.failures;
            let name = hash[2..].to_owned();
            origin.fail(move |path| path.ends_with(&name), fault);
            let error = std::fs::read(&path).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32), "{fault:?}");
            assert!(!file_in_cache(&site, &hash).exists(), "{fault:?}");
            assert_eq!(std::fs::read_dir(site.path().join("cache/txn"))?.count(), 0);
            assert_eq!(client.statistics()?.failures, failures + 1, "{fault:?}");
            origin.heal();
        }
        assert_eq!(std::fs::read(&path)?.len() as u64, script.size);
        Ok(())
    });
}

#[test]
fn many_files_at_once_share_at_most_sixteen_connections() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, client) = fixture::mount(&site);
        let files: Vec<_> = listing()?.into_iter().filter(|listed| listed.sha256.is_some()).collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    while let Some(file) = files.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                        std::fs::read(path_of(&client, file)).unwrap();
                    }
                });
            }
        });
        let totals = origin.totals("client");
        assert!(totals.connections <= 16 && totals.requests > 60, "{totals:?}");
        let paths: Vec<_> = origin.requests().into_iter().map(|request| request.path).collect();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "nothing is fetched twice");
        assert_eq!(client.statistics()?.requests, totals.requests);
        assert_eq!(client.statistics()?.bytes, totals.bytes);
        Ok(())
    });
}

#[test]
fn a_repository_with_another_master_key_is_not_mounted() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let origin = Origin::start(&fixture::directory())?;
        let mut spec = fixture::spec(&site, origin.address_for("client")?);
        let other = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024)?.to_public_key();
        spec.public_key = site.path().join("other.pub");
        std::fs::write(&spec.public_key, rsa::pkcs8::EncodePublicKey::to_public_key_pem(&other, Default::default())?)?;
        let error = format!("{:#}", Client::start(&spec).unwrap_err());
        assert!(error.contains("not signed by the master key"), "{error}");
        Ok(())
    });
}

#[test]
fn a_new_revision_is_seen_after_a_reload_and_not_before() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let web_root = site.subdirectory("web/cvmfs/test.example.org")?;
        let mut repository = Repository::create(&web_root, "test.example.org")?;
        repository.put_catalog("/nested")?;
        for name in ["/changed", "/removed", "/same", "/nested/changed"] {
            repository.put_file(name, b"old")?;
        }
        repository.commit()?;
        let origin = Origin::start(&site.path().join("web"))?;
        let mut spec = fixture::spec(&site, origin.address_for("client")?);
        spec.url = format!("http://{}/cvmfs/test.example.org", origin.address_for("client")?);
        spec.public_key = repository.public_key().to_owned();
        let client = Client::start(&spec)?;
        let at = |name: &str| client.mount_point().join(name);
        // The kernel now caches all names, including absent ones.
        let seen = || {
            let names = ["changed", "removed", "same", "nested/changed", "added", "nested/added"];
            names.map(|name| std::fs::read_to_string(at(name)).unwrap_or_default()).join(",")
        };
        let names = |directory: &str| {
            let entries = std::fs::read_dir(at(directory)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
        };
        assert_eq!(seen(), "old,old,old,old,,");
        assert!(names("").contains("removed"));
        let held = File::open(at("changed"))?;
        assert_eq!(client.reload()?, repository.revision(), "nothing new");

        repository.put_file("/changed", b"newer")?;
        repository.put_file("/nested/changed", b"newer")?;
        repository.put_file("/added", b"new")?;
        repository.put_file("/nested/added", b"new")?;
        repository.remove_tree("/removed")?;
        repository.commit()?;
        assert_eq!(seen(), "old,old,old,old,,");
        assert_eq!(client.reload()?, repository.revision());
        assert_eq!(seen(), "newer,,old,newer,new,new");
        assert!(names("").contains("added") && !names("").contains("removed"));
        assert_eq!(xattr(client.mount_point(), "user.revision"), Some(repository.revision().to_string()));
        assert_eq!(std::io::read_to_string(held)?, "old", "what is open stays what it was");
        Ok(())
    });
}

#[test]
fn a_manifest_that_does_not_verify_is_not_loaded() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let web_root = site.subdirectory("web")?;
        let source = fixture::directory().join(FQRN);
        testbed::process::run("cp", &["-r", source.to_str().unwrap(), web_root.to_str().unwrap()])?;
        let origin = Origin::start(&web_root)?;
        let client = Client::start(&fixture::spec(&site, origin.address_for("client")?))?;
        let manifest = web_root.join(FQRN).join(".cvmfspublished");
        let mut text = std::fs::read(&manifest)?;
        let last = text.len() - 1;
        text[last] ^= 1;
        std::fs::write(&manifest, text)?;
        let error = client.reload().unwrap_err().to_string();
        assert!(error.contains("not signed by its certificate"), "{error}");
        assert_eq!(std::fs::read(path_of(&client, &listed(SCRIPT)))?.len() as u64, listed(SCRIPT).size);
        Ok(())
    });
}

#[test]
fn a_killed_client_leaves_a_dead_mount_that_can_be_replaced() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let (origin, mut client) = fixture::mount(&site);
        client.kill()?;
        let error = std::fs::metadata(client.mount_point().join(".layers")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ENOTCONN as i32));
        drop(client);
        let client = Client::start(&fixture::spec(&site, origin.address_for("client")?))?;
        assert!(client.mount_point().join(".layers").is_dir());
        Ok(())
    });
}

#[test]
fn squid_serves_the_second_client_without_requests_to_the_origin() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let origin = Origin::start(&fixture::directory())?;
        let link = LinkEmulator::start(origin.address_for("squid")?, LinkSpec::default())?;
        let squid = Squid::start(&site.path().join("squid"))?;
        let mut spec = fixture::spec(&site, link.address());
        spec.proxy = Some(squid.url());
        let script = listed(SCRIPT);
        let client = Client::start(&spec)?;
        assert_eq!(xattr(client.mount_point(), "user.proxy"), Some(squid.url()));
        assert_eq!(std::fs::read(path_of(&client, &script))?.len() as u64, script.size);
        client.unmount()?;
        let first = origin.take_requests().into_iter().map(|request| request.path).collect::<Vec<_>>();
        assert!(first.iter().any(|path| path.ends_with(&script.hash.as_ref().unwrap()[2..])), "{first:?}");
        // A second node with an empty cache.
        spec.cache = site.path().join("cache2");
        let client = Client::start(&spec)?;
        assert_eq!(std::fs::read(path_of(&client, &script))?.len() as u64, script.size);
        assert_eq!(client.statistics()?.requests, first.len() as u64);
        let second = origin.take_requests().into_iter().map(|request| request.path).collect::<Vec<_>>();
        assert_eq!(second, Vec::<String>::new(), "squid has everything; its log:\n{}", squid.access_log());
        Ok(())
    });
}
