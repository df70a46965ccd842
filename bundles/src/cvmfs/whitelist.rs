//! `.cvmfswhitelist`: the certificates that may sign manifests, and until when. Source: `cvmfs/whitelist.cc`.

use super::CvmfsError;
use super::signed::SignedText;

const FILE: &str = ".cvmfswhitelist";

/// A parsed whitelist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whitelist {
    /// `N`: the repository it is for.
    pub repository: String,
    /// `E`: time (UTC, `YYYYMMDDhhmmss`) after which it must not be trusted.
    pub expires: String,
    /// Fingerprints of the certificates, `AB:CD:...`.
    pub fingerprints: Vec<String>,
}

impl Whitelist {
    /// Parses the lines of a signed text: creation time, `E` expiry, `N` name, then one fingerprint per line,
    /// with comments after `#`.
    pub fn parse(signed: &SignedText<'_>) -> Result<Self, CvmfsError> {
        let malformed = |reason: &str| CvmfsError::Malformed { file: FILE, reason: reason.to_owned() };
        let mut lines = signed.text.lines().skip(1);
        let mut field =
            |key: char, what: &str| lines.next().and_then(|l| l.strip_prefix(key)).ok_or_else(|| malformed(what));
        let expires = field('E', "its second line is not `E<time>`")?.to_owned();
        let repository = field('N', "its third line is not `N<name>`")?.to_owned();
        if expires.len() != 14 || !expires.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed("its expiry is not YYYYMMDDhhmmss"));
        }
        let fingerprints = lines
            .filter_map(|line| line.split('#').next())
            .map(|line| line.trim().to_ascii_uppercase())
            .filter(|line| !line.is_empty())
            .collect();
        Ok(Self { repository, expires, fingerprints })
    }

    /// Whether it is valid at `now`, in seconds since 1970.
    pub fn is_valid_at(&self, now: u64) -> bool {
        utc_digits(now) < self.expires
    }
}

/// `YYYYMMDDhhmmss` in UTC. Times written like this compare like their texts.
fn utc_digits(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date: H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_like_in_whitelists() {
        for (seconds, text) in [
            (0, "19700101000000"),
            (951_782_399, "20000228235959"),
            (951_782_400, "20000229000000"),
            (1_795_404_260, "20261123032420"),
            (4_102_444_800, "21000101000000"),
        ] {
            assert_eq!(utc_digits(seconds), text);
        }
    }

    #[test]
    fn whitelists_expire() {
        let list = Whitelist { repository: String::new(), expires: "20261123032420".into(), fingerprints: vec![] };
        assert!(list.is_valid_at(1_795_404_259));
        assert!(!list.is_valid_at(1_795_404_260));
    }
}
