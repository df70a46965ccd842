//! What the daemon serves beside its own API: health, reflection, metrics, logs; and to whom, over TCP.

#![allow(clippy::unwrap_used)]

mod site;

use std::path::PathBuf;

use api::proto::prefetcher_client::PrefetcherClient;
use api::proto::{CancelRequest, Image, ListRequest, RemoveBundleRequest, RequestState, SetPriorityRequest};
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use site::{Behaviour, Daemon, Object, Origin, Site, by_chain, noise, objects, until};

const SERVICE: &str = "cvmfs_prefetch.v1.Prefetcher";

async fn channel(site: &Site) -> Channel {
    let socket = site.path("prefetchd.sock");
    Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await.unwrap()
}

/// A port on which nobody listens a moment later.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_serving_until_the_daemon_shuts_down() {
    let (site, wanted) = (Site::new(), [Object::new(&noise(12 << 20))]);
    let origin = Origin::start(&wanted).await;
    origin.set(&wanted[0], Behaviour::Hold(wanted[0].stored.clone()));
    let bundle = site::bundle("image", &wanted);
    site.publish(&bundle);
    let mut daemon = Daemon::start(&site, &[&origin]).await;
    daemon.client.prefetch(by_chain(&bundle)).await.unwrap();
    until("a temporary file", || !site.temporary_files().is_empty()).await;
    let mut health = HealthClient::new(channel(&site).await);
    for (signal, expected) in [(None, ServingStatus::Serving), (Some(Signal::SIGTERM), ServingStatus::NotServing)] {
        if let Some(signal) = signal {
            daemon.signal(signal);
            until("the daemon has noticed", || daemon.log().contains("draining")).await;
        }
        for service in ["", SERVICE] {
            let request = || HealthCheckRequest { service: service.into() };
            // It is reported in parallel to the draining, which the held object keeps from ending.
            let mut status = health.check(request()).await.unwrap().into_inner().status();
            while status != expected {
                status = health.check(request()).await.unwrap().into_inner().status();
            }
        }
    }
    origin.open_gate();
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_the_service() {
    let site = Site::new();
    let origin = Origin::start([]).await;
    let _daemon = Daemon::start(&site, &[&origin]).await;
    let mut reflection = ServerReflectionClient::new(channel(&site).await);
    let mut ask = async |message_request| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let mut answers =
            reflection.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&SERVICE.to_owned()) && names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
    let symbol = MessageRequest::FileContainingSymbol(format!("{SERVICE}.WaitCritical"));
    assert!(matches!(ask(symbol).await, MessageResponse::FileDescriptorResponse(_)));
}

async fn http(port: u16, request: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    connection.write_all(format!("{request} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_requests_did() {
    let (site, wanted) = (Site::new(), objects(1, 5));
    let origin = Origin::start(&wanted[..4]).await;
    let (good, bad) = (site::bundle("good", &wanted[..4]), site::bundle("bad", &wanted));
    site.publish(&good);
    site.publish(&bad);
    let port = free_port().await;
    let daemon = Daemon::start_with(&site, &[&origin], &format!("metrics_address = \"127.0.0.1:{port}\"")).await;
    for (bundle, expected) in [(&good, RequestState::Done), (&good, RequestState::Done), (&bad, RequestState::Failed)] {
        assert_eq!(daemon.prefetch_bundle(bundle).await.state(), expected);
    }
    assert_eq!(daemon.prefetch(by_chain(&site::bundle("absent", []))).await.state(), RequestState::NoBundle);
    let stored: usize = wanted[..4].iter().map(|object| object.stored.len()).sum();
    let raw: usize = wanted[..4].iter().map(|object| object.raw.len()).sum();
    let answer = http(port, "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/openmetrics-text"), "{answer}");
    for line in [
        "requests_total{state=\"done\"} 2".to_owned(),
        "requests_total{state=\"failed\"} 1".into(),
        "requests_total{state=\"no_bundle\"} 1".into(),
        "requests_total{state=\"cancelled\"} 0".into(),
        "running_requests 0".into(),
        "objects_total{outcome=\"fetched\"} 4".into(),
        "objects_total{outcome=\"cached\"} 8".into(),
        "failures_total{cause=\"transfer\"} 1".into(),
        format!("bytes_total{{kind=\"stored\"}} {stored}"),
        format!("bytes_total{{kind=\"raw\"}} {raw}"),
        "request_seconds_count 4".into(),
        "time_to_critical_seconds_count 2".into(),
        "stored_bundles 2".into(),
        "damaged_bundles_total 0".into(),
        "bad_bundles_total 0".into(),
    ] {
        assert!(answer.contains(&format!("\ncvmfs_prefetch_{line}\n")), "no {line} in\n{answer}");
    }
    assert!(http(port, "GET /").await.starts_with("HTTP/1.1 404"));
    assert!(http(port, "DELETE /metrics").await.starts_with("HTTP/1.1 405"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_log_has_the_request_ids_in_every_line() {
    let (site, wanted) = (Site::new(), objects(2, 2));
    let origin = Origin::start(&wanted).await;
    let bundle = site::bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start_with(&site, &[&origin], "log_format = \"json\"").await;
    let (image, correlation_id) = (Some(by_chain(&bundle)), "sandbox-4711".to_owned());
    let call = api::proto::PrefetchRequest { image, correlation_id, ..Default::default() };
    let id = daemon.client.submit(call).await.unwrap();
    daemon.client.wait(id, site::LONG).await.unwrap();
    // The log comes a little later than the answer.
    site::until("the end is logged", || daemon.log().contains("request ended")).await;
    let log = daemon.log();
    let written = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines: Vec<serde_json::Value> =
        written.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    let of_request: Vec<_> = lines.iter().filter(|line| line["span"]["request"] == id).collect();
    for message in ["request", "bundle found", "request ended"] {
        let line = of_request.iter().find(|line| line["message"] == message);
        assert_eq!(
            line.map(|line| &line["span"]["correlation_id"]),
            Some(&"sandbox-4711".into()),
            "{message}: {lines:?}"
        );
    }
}

/// Certificates in files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate for `name` and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_only_clients_with_a_certificate_are_served() {
    let site = Site::new();
    let origin = Origin::start([]).await;
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue("localhost");
    let file = |name: &str, content: &str| -> PathBuf {
        std::fs::write(site.path(name), content).unwrap();
        site.path(name)
    };
    let port = free_port().await;
    let tcp = format!(
        "[tcp]\naddress = \"127.0.0.1:{port}\"\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}",
        file("daemon.crt", &certificate),
        file("daemon.key", &key),
        file("ca.crt", &ours.issuer.pem()),
    );
    let daemon = Daemon::start_with(&site, &[&origin], &tcp).await;
    let connect = async |identity: Option<(String, String)>| {
        let tls =
            ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(ours.issuer.pem()));
        let tls = match identity {
            Some((certificate, key)) => tls.identity(Identity::from_pem(certificate, key)),
            None => tls,
        };
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap().tls_config(tls).unwrap();
        // With TLS 1.3 a caller learns that it is refused only with its first call.
        Ok::<_, String>(PrefetcherClient::new(endpoint.connect().await.map_err(|e| e.to_string())?))
    };
    let call = async |identity| connect(identity).await?.list(ListRequest {}).await.map_err(|e| e.to_string());
    assert!(call(Some(ours.issue("client.example"))).await.is_ok());
    for identity in [None, Some(theirs.issue("client.example"))] {
        assert!(call(identity).await.is_err());
    }
    let mut plain = PrefetcherClient::connect(format!("http://127.0.0.1:{port}")).await.unwrap();
    assert!(plain.list(ListRequest {}).await.is_err());
    // What others have requested can be changed only where the configuration allows it.
    let mut expected = Code::PermissionDenied;
    let mut running = Some(daemon);
    for control in ["", "\ncontrol = true"] {
        if !control.is_empty() {
            running.take();
            running = Some(Daemon::start_with(&site, &[&origin], &format!("{tcp}{control}")).await);
            expected = Code::NotFound;
        }
        let mut client = connect(Some(ours.issue("client.example"))).await.unwrap();
        let cancelled = client.cancel(CancelRequest { request_id: 9 }).await.unwrap_err();
        let changed = client.set_priority(SetPriorityRequest { request_id: 9, priority: 1 }).await.unwrap_err();
        let removed = client.remove_bundle(RemoveBundleRequest { image: Some(Image::default()) }).await.unwrap_err();
        assert_eq!((cancelled.code(), changed.code()), (expected, expected));
        assert_eq!(removed.code() == Code::PermissionDenied, control.is_empty());
    }
    drop(running);
}
