//! From the repository's URL to the hash of its root catalog: the chain of signatures.
//!
//! master key -> whitelist -> certificate -> manifest -> root catalog. The crate `cvmfs` reads all of them and verifies the
//! manifest's signature; the whitelist's signature and the certificate's fingerprint are verified here.

use std::fs::File;
use std::io::{Read, Seek, Write};

use anyhow::{Context, Result, ensure};
use bundles::object::{ContentHash, ObjectKind};
use cvmfs::certificate::Certificate;
use cvmfs::manifest::Manifest;
use cvmfs::root_file::RootFile;
use cvmfs::whitelist::Whitelist;
use rsa::pkcs8::DecodePublicKey;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha1::{Digest, Sha1};

use super::objects::{Object, Objects};

/// A verified manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) fqrn: String,
    pub(super) revision: u64,
    pub(super) catalog: ContentHash,
}

impl Root {
    /// Fetches and verifies the current manifest.
    pub(super) fn fetch(objects: &Objects, master_key: &RsaPublicKey) -> Result<Self> {
        let root_file = root_file(&objects.downloader.get(".cvmfspublished")?).context("bad manifest")?;
        let signature = root_file.signature().context("the manifest is not signed")?.to_vec();
        let checksum = root_file.checksum().context("the manifest is not signed")?.to_owned();
        let manifest = Manifest::new(root_file).context("bad manifest")?;

        let hash = manifest.certificate.parse().context("bad certificate hash in the manifest")?;
        let mut certificate = Vec::new();
        objects.open(&Object::of_unknown_size(hash, ObjectKind::Certificate))?.read_to_end(&mut certificate)?;
        let certificate = Certificate::try_from(certificate.as_slice()).context("bad certificate")?;
        let signed = certificate.verify(&signature, checksum.as_bytes()).context("bad certificate")?;
        ensure!(signed, "the manifest is not signed by its certificate");

        let bytes = objects.downloader.get(".cvmfswhitelist")?;
        verify_whitelist(&bytes, master_key)?;
        let whitelist = Whitelist::parse(&bytes).context("bad whitelist")?;
        ensure!(
            whitelist.matches_repository(&manifest.repository_name),
            "the whitelist is for {:?} instead of {:?}",
            whitelist.repository_name,
            manifest.repository_name
        );
        ensure!(!whitelist.is_expired(), "the whitelist has expired on {}", whitelist.expires);
        let der = certificate.openssl_certificate.encode_der().context("bad certificate")?;
        let fingerprint = fingerprint(&der);
        ensure!(whitelist.fingerprints.contains(&fingerprint), "the certificate {fingerprint} is not in the whitelist");
        let catalog = manifest.root_catalog.parse().context("bad root catalog hash in the manifest")?;
        Ok(Self { fqrn: manifest.repository_name, revision: manifest.revision.into(), catalog })
    }
}

/// Reads a public key in PEM form.
pub(super) fn read_master_key(pem: &str) -> Result<RsaPublicKey> {
    RsaPublicKey::from_public_key_pem(pem).context("not a public RSA key in PEM form")
}

/// The crate reads root files from files only.
fn root_file(bytes: &[u8]) -> Result<RootFile> {
    let mut file: File = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(RootFile::new(&file)?)
}

/// `text`, `--`, its SHA-1 in hex, and the signature of these hex digits (PKCS #1 v1.5 without a digest's name).
fn verify_whitelist(bytes: &[u8], master_key: &RsaPublicKey) -> Result<()> {
    const END: &[u8] = b"\n--\n";
    let end = bytes.windows(END.len()).position(|window| window == END).context("the whitelist is not signed")?;
    let (text, rest) = (&bytes[..end + 1], &bytes[end + END.len()..]);
    let newline = rest.iter().position(|byte| *byte == b'\n').context("the whitelist has no signature")?;
    let (hash, signature) = (&rest[..newline], &rest[newline + 1..]);
    ensure!(hash == hex::encode(Sha1::digest(text)).as_bytes(), "the whitelist's hash is wrong");
    master_key
        .verify(Pkcs1v15Sign::new_unprefixed(), hash, signature)
        .context("the whitelist is not signed by the master key")
}

/// SHA-1 of the certificate, as whitelists have it.
fn fingerprint(der: &[u8]) -> String {
    Sha1::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
