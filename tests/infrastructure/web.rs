//! Origin, link and squid.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::namespace::{self, SiteDirectory};
use testbed::web::{Fault, LinkEmulator, LinkSpec, Origin, Squid};

/// A web root with a small and a large file.
fn web_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("cvmfs/a.b/data")).unwrap();
    std::fs::write(root.path().join("cvmfs/a.b/small"), "0123456789").unwrap();
    std::fs::write(root.path().join("cvmfs/a.b/data/large"), large()).unwrap();
    std::fs::write(root.path().join("cvmfs/a.b/data/empty"), "").unwrap();
    root
}

fn large() -> Vec<u8> {
    (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    let response = http().get(format!("http://{address}{path}")).send().await?;
    Ok((response.status().as_u16(), response.bytes().await?.to_vec()))
}

#[tokio::test]
async fn files_are_served_and_requests_are_logged_by_client() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let (alice, bob) = (origin.address_for("alice").unwrap(), origin.address_for("bob").unwrap());
    assert_ne!(alice, bob);
    assert_eq!(origin.address_for("alice").unwrap(), alice);
    let client = http();
    for _ in 0..3 {
        let response = client.get(format!("http://{alice}/cvmfs/a.b/small")).send().await.unwrap();
        assert_eq!(response.bytes().await.unwrap(), "0123456789");
    }
    assert_eq!(get(bob, "/cvmfs/a.b/data/large").await.unwrap(), (200, large()));
    assert_eq!(get(bob, "/cvmfs/a.b/data/empty").await.unwrap(), (200, vec![]));
    for missing in ["/", "/cvmfs", "/nothing", "/cvmfs/a.b/%2e%2e/%2e%2e/x"] {
        assert_eq!(get(bob, missing).await.unwrap().0, 404, "{missing}");
    }
    let head = client.head(format!("http://{bob}/cvmfs/a.b/data/large")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "3000000");
    let put = client.put(format!("http://{bob}/cvmfs/a.b/small")).send().await.unwrap();
    assert_eq!(put.status(), 405);

    let totals = origin.totals("alice");
    assert_eq!((totals.connections, totals.requests, totals.bytes), (1, 3, 30), "kept alive");
    assert_eq!((origin.totals("bob").requests, origin.totals("bob").bytes), (8, 3_000_000));
    let requests = origin.take_requests();
    assert_eq!(requests.len(), 11);
    assert!(requests.windows(2).all(|pair| pair[0].started <= pair[1].started));
    assert_eq!((requests[0].client.as_str(), requests[0].path.as_str()), ("alice", "/cvmfs/a.b/small"));
    assert_eq!((requests[0].status, requests[0].bytes), (200, 10));
    assert_eq!((requests[9].method.as_str(), requests[9].bytes), ("HEAD", 0));
    assert_eq!(origin.requests(), []);
}

#[tokio::test]
async fn clients_at_one_address_are_labelled_by_user_agent() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    origin.label_user_agent("bobs/", "bob");
    let address = origin.address_for("alice").unwrap();
    for agent in ["bobs/1.0", "alices/1.0 (bobs/)"] {
        let request = http().get(format!("http://{address}/cvmfs/a.b/small")).header("User-Agent", agent);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    assert_eq!(origin.requests().iter().map(|request| &*request.client).collect::<Vec<_>>(), ["bob", "alice"]);
    assert_eq!((origin.totals("alice").requests, origin.totals("bob").requests), (1, 1));
}

#[tokio::test]
async fn ranges_are_served_in_part() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let address = origin.address_for("client").unwrap();
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, Some("bytes 2-4/10"), "234"),
        ("bytes=-2", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=8-", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=10-", 416, Some("bytes */10"), ""),
        ("bytes=0-1,3-4", 200, None, "0123456789"),
    ] {
        let request = http().get(format!("http://{address}/cvmfs/a.b/small")).header("range", range);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{range}");
        assert_eq!(response.headers().get("content-range").map(|v| v.to_str().unwrap()), content_range, "{range}");
        assert_eq!(response.text().await.unwrap(), body, "{range}");
    }
    let ranges = origin.requests().into_iter().map(|request| request.range.unwrap());
    assert_eq!(ranges.collect::<Vec<_>>()[0], "bytes=2-4");
}

#[tokio::test]
async fn faults_hit_the_chosen_paths_until_healed() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let address = origin.address_for("client").unwrap();
    let large_path = "/cvmfs/a.b/data/large";

    origin.fail(|path| path.ends_with("large"), Fault::Status(503));
    assert_eq!(get(address, large_path).await.unwrap(), (503, vec![]));
    assert_eq!(get(address, "/cvmfs/a.b/small").await.unwrap().0, 200);
    origin.heal();
    assert_eq!(get(address, large_path).await.unwrap().0, 200);

    origin.fail(|path| path.ends_with("large"), Fault::Garbage);
    let (status, body) = get(address, large_path).await.unwrap();
    assert_eq!((status, body.len()), (200, 3_000_000));
    assert!(body.iter().zip(large()).all(|(found, right)| *found != right));
    origin.heal();

    origin.take_requests();
    origin.fail(|path| path.ends_with("large"), Fault::Truncate(1_000_000));
    assert!(get(address, large_path).await.is_err());
    assert_eq!(origin.take_requests()[0].bytes, 1_000_000);
    origin.heal();

    origin.fail(|path| path.ends_with("large"), Fault::Stall);
    let stalled = tokio::spawn(get(address, large_path));
    // Another request gives the first one time to be stalled; it must not end.
    assert_eq!(get(address, "/cvmfs/a.b/small").await.unwrap().0, 200);
    assert!(!stalled.is_finished());
    origin.heal();
    assert_eq!(stalled.await.unwrap().unwrap().1.len(), 3_000_000);
}

#[tokio::test]
async fn a_link_delays_the_handshake_and_every_exchange() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let round_trip = Duration::from_millis(40);
    let link =
        LinkEmulator::start(origin.address_for("client").unwrap(), LinkSpec::with_round_trip(round_trip)).unwrap();
    let client = http();
    let url = format!("http://{}/cvmfs/a.b/small", link.address());
    let timed = async || {
        let start = Instant::now();
        assert_eq!(client.get(&url).send().await.unwrap().bytes().await.unwrap(), "0123456789");
        start.elapsed()
    };
    let first = timed().await;
    assert!(first >= 2 * round_trip, "handshake and exchange in {first:?}");
    let second = timed().await;
    assert!(second >= round_trip, "an exchange in {second:?}");
    link.set(LinkSpec::with_round_trip(3 * round_trip));
    let third = timed().await;
    assert!(third >= 3 * round_trip, "a longer link: {third:?}");
    assert_eq!(origin.totals("client").connections, 1);
}

#[tokio::test]
async fn a_link_limits_each_connection_and_all_together() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let target = origin.address_for("client").unwrap();
    let (connection_limit, total_limit) = (30_000_000, 40_000_000);
    let link = LinkEmulator::start(
        target,
        LinkSpec {
            round_trip: Duration::ZERO,
            total_bytes_per_second: Some(total_limit),
            connection_bytes_per_second: Some(connection_limit),
            ..LinkSpec::default()
        },
    )
    .unwrap();
    // The bandwidth that an unused link accumulates.
    let burst = Duration::from_millis(5);
    let least = |bytes: u64, rate: u64| Duration::from_secs_f64(bytes as f64 / rate as f64) - burst;
    let start = Instant::now();
    assert_eq!(get(link.address(), "/cvmfs/a.b/data/large").await.unwrap().1, large());
    assert!(start.elapsed() >= least(3_000_000, connection_limit), "{:?}", start.elapsed());
    let start = Instant::now();
    let downloads = (0..4).map(|_| get(link.address(), "/cvmfs/a.b/data/large"));
    for result in futures::future::join_all(downloads).await {
        assert_eq!(result.unwrap().1, large());
    }
    assert!(start.elapsed() >= least(12_000_000, total_limit), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_link_emulates_tcp_slow_start() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let round_trip = Duration::from_millis(20);
    let spec = LinkSpec { slow_start: true, ..LinkSpec::with_round_trip(round_trip) };
    let link = LinkEmulator::start(origin.address_for("client").unwrap(), spec).unwrap();
    let start = Instant::now();
    assert_eq!(get(link.address(), "/cvmfs/a.b/data/large").await.unwrap().1, large());
    // Handshake, request, and 14.6 kB, 29.2 kB, ... until the eighth has the last of 3 MB.
    assert!(start.elapsed() >= 9 * round_trip, "{:?}", start.elapsed());
}

#[test]
fn a_link_carries_half_closed_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = LinkEmulator::start(listener.local_addr().unwrap(), LinkSpec::with_round_trip(Duration::from_millis(2)))
        .unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        // More than any buffer can hold, after the client has finished sending.
        stream.write_all(&question.repeat(1_000_000)).unwrap();
    });
    let mut stream = TcpStream::connect(link.address()).unwrap();
    stream.write_all(b"question").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 8_000_000);
    assert!(answer.chunks(8).all(|piece| piece == b"question"));
    server.join().unwrap();
}

#[tokio::test]
async fn a_cut_link_holds_all_bytes_until_restored_or_broken() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let link = LinkEmulator::start(origin.address_for("client").unwrap(), LinkSpec::default()).unwrap();
    link.cut();
    let held = tokio::spawn(get(link.address(), "/cvmfs/a.b/data/large"));
    // A direct request takes longer than one over the link would; still nothing arrives over the link.
    let direct = origin.address_for("direct").unwrap();
    for _ in 0..20 {
        get(direct, "/cvmfs/a.b/data/large").await.unwrap();
    }
    assert_eq!(origin.totals("client").requests, 0);
    assert!(!held.is_finished());
    link.restore();
    assert_eq!(held.await.unwrap().unwrap(), (200, large()));

    link.cut();
    let broken = tokio::spawn(get(link.address(), "/cvmfs/a.b/small"));
    while origin.totals("client").connections < 2 {
        tokio::task::yield_now().await;
    }
    link.break_connections();
    assert!(broken.await.unwrap().is_err());
    link.restore();
    assert_eq!(get(link.address(), "/cvmfs/a.b/small").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_link_carries_many_connections_at_once() {
    let root = web_root();
    let origin = Origin::start(root.path()).unwrap();
    let spec = LinkSpec::with_round_trip(Duration::from_millis(5));
    let link = LinkEmulator::start(origin.address_for("client").unwrap(), spec).unwrap();
    let downloads = (0..64).map(|_| get(link.address(), "/cvmfs/a.b/data/large"));
    for result in futures::future::join_all(downloads).await {
        assert_eq!(result.unwrap().1, large());
    }
    let totals = origin.totals("client");
    assert_eq!((totals.connections, totals.requests, totals.bytes), (64, 64, 64 * 3_000_000));
}

#[test]
fn squid_fetches_an_object_once_for_everybody() {
    namespace::test(|| async {
        let site = SiteDirectory::new("site")?;
        let origin = Origin::start(web_root_in(site.path()).as_path())?;
        let link = LinkEmulator::start(origin.address_for("squid")?, LinkSpec::default())?;
        let squid = Squid::start(&site.path().join("squid"))?;
        for _ in 0..3 {
            let client = reqwest::Client::builder().proxy(reqwest::Proxy::http(squid.url())?).build()?;
            let url = format!("http://{}/data/large", link.address());
            assert_eq!(client.get(url).send().await?.bytes().await?, large());
        }
        assert_eq!(origin.totals("squid").requests, 1, "{}", squid.access_log());
        Ok(())
    });
}

fn web_root_in(site: &Path) -> std::path::PathBuf {
    let root = site.join("web");
    std::fs::create_dir_all(root.join("data")).unwrap();
    std::fs::write(root.join("data/large"), large()).unwrap();
    root
}
