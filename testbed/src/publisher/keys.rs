//! Keys, certificate and the two signed files.
//!
//! Both files are lines of text, `--`, the SHA-1 of the text in hex, a newline and the signature of these 40 digits.
//! The whitelist's signature, by the master key, is RSA with PKCS#1 v1.5 padding over the digits as they are; the
//! manifest's, by the certificate's key, is the usual RSA with SHA-1 (that is, over a SHA-1 of the digits).

use std::time::Duration;

use anyhow::{Context, Result};
use rsa::pkcs1v15::{Pkcs1v15Sign, Signature, SigningKey};
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::rand_core::{OsRng, RngCore};
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use x509_cert::builder::{Builder, CertificateBuilder, Profile};
use x509_cert::der::{DateTime, Encode, EncodePem};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Validity;

const KEY_BITS: usize = 2048;

/// Ten years, for certificate and whitelist: a test site is not re-signed.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The two key pairs of a repository, and the certificate of the second.
#[derive(Debug)]
pub(super) struct Keys {
    master: RsaPrivateKey,
    signing: RsaPrivateKey,
    certificate: String,
    fingerprint: String,
}

impl Keys {
    pub(super) fn generate(fqrn: &str) -> Result<Self> {
        let (master, signing) = std::thread::scope(|scope| {
            let other = scope.spawn(|| RsaPrivateKey::new(&mut OsRng, KEY_BITS));
            (RsaPrivateKey::new(&mut OsRng, KEY_BITS), other.join())
        });
        let signing = signing.map_err(|_| anyhow::anyhow!("key generation panicked"))?.context("signing key")?;
        let certificate = certificate(&signing, fqrn).context("cannot make a certificate")?;
        let fingerprint = Sha1::digest(certificate.to_der()?);
        let fingerprint = fingerprint.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let certificate = certificate.to_pem(LineEnding::LF)?;
        Ok(Self { master: master.context("master key")?, signing, certificate, fingerprint })
    }

    /// The certificate in PEM.
    pub(super) fn certificate(&self) -> &[u8] {
        self.certificate.as_bytes()
    }

    /// The master key's public part in PEM.
    pub(super) fn public_master_key(&self) -> Result<String> {
        Ok(RsaPublicKey::from(&self.master).to_public_key_pem(LineEnding::LF)?)
    }

    /// A whitelist with this one certificate.
    pub(super) fn whitelist(&self, fqrn: &str, now: u64) -> Result<Vec<u8>> {
        let (from, until) = (Date::at(now)?, Date::at(now + LIFETIME.as_secs())?);
        let text = format!("{}\nE{}\nN{fqrn}\n{}\n", from.digits(), until.digits(), self.fingerprint);
        sign(&text, |hash| Ok(self.master.sign(Pkcs1v15Sign::new_unprefixed(), hash)?))
    }

    /// A manifest, from its lines.
    pub(super) fn sign_manifest(&self, text: &str) -> Result<Vec<u8>> {
        sign(text, |hash| Ok(self.signing.sign(Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(hash))?))
    }
}

fn sign(text: &str, signature: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let hash = hex::encode(Sha1::digest(text));
    let mut file = format!("{text}--\n{hash}\n").into_bytes();
    file.extend(signature(hash.as_bytes())?);
    Ok(file)
}

fn certificate(key: &RsaPrivateKey, fqrn: &str) -> Result<x509_cert::Certificate> {
    let subject: Name = format!("CN={fqrn} CernVM-FS Release Managers").parse()?;
    let public = SubjectPublicKeyInfoOwned::from_key(RsaPublicKey::from(key))?;
    let serial = SerialNumber::from((OsRng.next_u32() >> 1) | 1);
    let signer = SigningKey::<Sha256>::new(key.clone());
    let validity = Validity::from_now(LIFETIME)?;
    let builder = CertificateBuilder::new(Profile::Root, serial, validity, subject, public, &signer)?;
    Ok(builder.build::<Signature>()?)
}

/// A moment in UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Date {
    seconds: u64,
    date: DateTime,
}

impl Date {
    pub(super) fn at(seconds: u64) -> Result<Self> {
        Ok(Self { seconds, date: DateTime::from_unix_duration(Duration::from_secs(seconds))? })
    }

    /// `YYYYMMDDhhmmss`, as in whitelists.
    fn digits(&self) -> String {
        let d = &self.date;
        let (year, month, day) = (d.year(), d.month(), d.day());
        format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", d.hour(), d.minutes(), d.seconds())
    }

    /// As `date --utc` writes it.
    pub(super) fn for_people(&self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let d = &self.date;
        let weekday = DAYS[(self.seconds / 86_400 % 7) as usize];
        let month = MONTHS[usize::from(d.month()) - 1];
        let (hour, minute, second) = (d.hour(), d.minutes(), d.seconds());
        format!("{weekday} {month} {:>2} {hour:02}:{minute:02}:{second:02} UTC {}", d.day(), d.year())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dates_are_written_as_the_server_tools_do() {
        let date = Date::at(1_795_404_260).unwrap();
        assert_eq!(date.digits(), "20261123032420");
        assert_eq!(date.for_people(), "Mon Nov 23 03:24:20 UTC 2026");
    }
}
