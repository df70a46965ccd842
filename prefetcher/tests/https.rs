//! Servers behind TLS: those of a site's own authority, and those that nobody should believe.

#![allow(clippy::unwrap_used)]

mod site;

use std::sync::Arc;

use api::proto::RequestState;
use hyper::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use site::{Daemon, Origin, Site, bundle, objects, tally};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// One called `name`.
fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server called `name` that offers these protocols.
fn server(authority: &Authority, name: &str, protocols: &[&str]) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sites_own_authority_is_trusted_if_it_is_named_and_http_2_is_spoken_where_offered() {
    let (ours, wanted) = (authority("ours"), objects(1, 12));
    for (protocols, by_hand, expected) in [
        (&["h2", "http/1.1"][..], true, Version::HTTP_2),
        (&["http/1.1"], true, Version::HTTP_11),
        (&[], true, Version::HTTP_11),
        (&["h2", "http/1.1"], false, Version::HTTP_2),
    ] {
        let mut site = Site::new();
        let origin = Origin::start_with_tls(server(&ours, "localhost", protocols), &wanted).await;
        let file = site.path("authority.pem");
        std::fs::write(&file, ours.pem()).unwrap();
        if by_hand {
            site.repository = format!("certificates = {file:?}");
        } else {
            // In the configuration of the CVMFS client.
            std::fs::create_dir(site.client_config()).unwrap();
            let local = format!("X509_CERT_BUNDLE={}\nX509_CERT_DIR=/nonexistent\n", file.display());
            std::fs::write(site.client_config().join("default.local"), local).unwrap();
        }
        let bundle = bundle("image", &wanted);
        site.publish(&bundle);
        let daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(&bundle).await;
        assert_eq!((status.state(), tally(&status).fetched_objects), (RequestState::Done, 12), "{status:?}");
        assert_eq!(origin.versions(), [expected; 12], "{protocols:?}");
        site.assert_cached(&wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_server_gets_no_request_and_the_error_says_why() {
    let (ours, other, wanted) = (authority("ours"), authority("other"), objects(2, 2));
    for (issuer, name, expected) in [
        (&other, "localhost", &["UnknownIssuer", "certificates = "][..]),
        (&ours, "elsewhere.example.org", &["not valid for name", "localhost"]),
    ] {
        let mut site = Site::new();
        let origin = Origin::start_with_tls(server(issuer, name, &["h2"]), &wanted).await;
        let file = site.path("authority.pem");
        std::fs::write(&file, ours.pem()).unwrap();
        site.repository = format!("certificates = {file:?}");
        let bundle = bundle("image", &wanted);
        site.publish(&bundle);
        let daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(&bundle).await;
        assert_eq!((status.state(), tally(&status).failed_transfer), (RequestState::Failed, 2), "{status:?}");
        assert!(expected.iter().all(|part| status.error.contains(part)), "{}", status.error);
        assert_eq!((origin.requests(), site.cache_files().len()), (0, 0));
    }
}
