//! Whom `https` servers may be certified by: the authorities of the system, and those of files that are named.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Certificate;
use tracing::warn;

/// All certificates in `paths`: files in PEM form, and directories of such. Certificates that cannot be used are logged and skipped, for other
/// servers may do without it.
pub(super) fn authorities(paths: &[PathBuf]) -> Vec<Certificate> {
    paths.iter().flat_map(|path| files(path)).flat_map(|file| read(&file)).collect()
}

/// The file itself, or the files of a directory that are named like certificates. Grid directories hold other files too.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot read certificates");
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_certificate(path)).collect();
    files.sort();
    files
}

fn is_certificate(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pem" || extension == "crt")
}

fn read(path: &Path) -> Vec<Certificate> {
    let parsed = fs::read(path).map_err(|e| e.to_string()).and_then(|pem| {
        let found = Certificate::from_pem_bundle(&pem).map_err(|e| e.to_string())?;
        if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
    });
    match parsed {
        Ok(found) => found.into_iter().filter(|certificate| is_usable(path, certificate)).collect(),
        Err(error) => {
            warn!(path = %path.display(), error, "cannot read certificates; expected a file in PEM format");
            Vec::new()
        }
    }
}

/// Whether TLS accepts the certificate. One that it rejects would make all others unusable.
fn is_usable(path: &Path, certificate: &Certificate) -> bool {
    let alone = reqwest::Client::builder().tls_certs_only([certificate.clone()]).build();
    alone.inspect_err(|error| warn!(path = %path.display(), ?error, "certificate cannot be used")).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    fn authority() -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn certificates_come_from_bundles_and_directories_and_what_is_no_certificate_spoils_none() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("two.pem", &(authority() + &authority()));
        write("one.crt", &authority());
        write("other.signing_policy", &authority());
        write("text.pem", "no certificate");
        write("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        for (name, expected) in [("", 3), ("two.pem", 2), ("text.pem", 0), ("bad.pem", 0), ("absent", 0)] {
            assert_eq!(authorities(&[dir.path().join(name)]).len(), expected, "{name}");
        }
        assert_eq!(authorities(&[dir.path().join("two.pem"), dir.path().join("one.crt")]).len(), 3);
    }
}
