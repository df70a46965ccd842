//! RSA keys and the two kinds of signatures that CVMFS uses. Source: `cvmfs/crypto/signature.cc`.

use std::path::Path;

use rsa::RsaPublicKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use sha1::{Digest, Sha1};
use x509_cert::der::pem::{self, PemLabel};
use x509_cert::der::{Decode, Encode};

use super::CvmfsError;
use super::signed::SignedText;

/// A repository's master key (public part), the root of trust. It comes from the machine's own configuration.
#[derive(Debug, Clone)]
pub struct MasterKey(RsaPublicKey);

impl MasterKey {
    /// Reads a PEM file, such as those in `/etc/cvmfs/keys`.
    pub fn read(path: &Path) -> Result<Self, CvmfsError> {
        let invalid = |reason: String| CvmfsError::InvalidKey { path: path.display().to_string(), reason };
        let pem = std::fs::read_to_string(path).map_err(|e| invalid(e.to_string()))?;
        Self::from_pem(&pem).map_err(|e| invalid(e.to_string()))
    }

    /// Parses a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = RsaPublicKey::from_public_key_pem(pem.trim())?;
        match key.size() * 8 {
            bits @ ..2048 => Err(KeyError::TooShort(bits)),
            _ => Ok(Self(key)),
        }
    }

    /// Verifies a whitelist's signature: RSA over the text of the hash, PKCS#1 v1.5 padding, without a digest
    /// prefix.
    pub fn verify(&self, signed: &SignedText<'_>) -> bool {
        self.0.verify(Pkcs1v15Sign::new_unprefixed(), signed.hash.as_bytes(), signed.signature).is_ok()
    }
}

/// A master key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not the PEM form of an RSA public key.
    #[error(transparent)]
    Pem(#[from] rsa::pkcs8::spki::Error),
    /// It is too short to be trusted.
    #[error("the key has {0} bits, at least 2048 are required")]
    TooShort(usize),
}

/// The certificate whose key signs manifests.
#[derive(Debug)]
pub struct Certificate {
    key: RsaPublicKey,
    /// SHA-1 of the DER form, as whitelists write it: `AB:CD:...`, 20 bytes.
    pub fingerprint: String,
}

impl Certificate {
    /// Parses the content of a certificate object: PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CvmfsError> {
        let malformed = |reason: String| CvmfsError::Malformed { file: "certificate", reason };
        // Not with `Certificate::from_pem`: its reader waits forever for bytes that a length promises beyond
        // the end.
        let (label, der) = pem::decode_vec(pem).map_err(|e| malformed(e.to_string()))?;
        x509_cert::Certificate::validate_pem_label(label).map_err(|e| malformed(e.to_string()))?;
        let certificate = x509_cert::Certificate::from_der(&der).map_err(|e| malformed(e.to_string()))?;
        let spki = certificate.tbs_certificate.subject_public_key_info.to_der();
        let spki = spki.map_err(|e| malformed(e.to_string()))?;
        let key = RsaPublicKey::from_public_key_der(&spki).map_err(|e| malformed(e.to_string()))?;
        let fingerprint = Sha1::digest(&der).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
        Ok(Self { key, fingerprint })
    }

    /// Verifies a manifest's signature: RSA with SHA-1, PKCS#1 v1.5, over the text of the hash.
    pub fn verify(&self, signed: &SignedText<'_>) -> bool {
        let digest = Sha1::digest(signed.hash.as_bytes());
        self.key.verify(Pkcs1v15Sign::new::<Sha1>(), &digest, signed.signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_certificates_are_refused() {
        // A tag without a length; a sequence of 266 missing bytes; a string of 16 MB of missing bytes;
        // nothing.
        for content in ["BA==", "MIIBCg==", "BIP///8=", ""] {
            let pem = format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n");
            assert!(Certificate::from_pem(pem.as_bytes()).is_err(), "{content}");
        }
    }
}
