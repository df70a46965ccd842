//! Servers, proxies, timeouts and retries, from the client's parameters.

use std::path::PathBuf;
use std::time::Duration;

use super::proxy::Proxy;
use super::shell::Values;
use super::url::{self, UrlError};

/// Directory in which grid sites keep certificate authorities; the client's own default.
const GRID: &str = "/etc/grid-security/certificates";

/// Proxy groups in the order of failover. The proxies of a group share the load.
pub type ProxyGroups = Vec<Vec<Proxy>>;

/// Why a list of proxies cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The client finds its proxies in the network.
    #[error("proxies are configured automatically (\"auto\", PAC); only the running CVMFS client knows them")]
    Automatic,
    /// An entry is not a URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The list is empty.
    #[error("no proxy is configured; write DIRECT to use none")]
    Missing,
}

/// Parses a list in the syntax of `CVMFS_HTTP_PROXY`: `;` between groups, `|` within a group, `DIRECT` for no proxy.
pub fn proxies(text: &str) -> Result<ProxyGroups, ProxyError> {
    let group = |group: &str| -> Result<Vec<Proxy>, ProxyError> {
        group.split('|').map(str::trim).filter(|name| !name.is_empty()).map(proxy).collect()
    };
    let groups: Result<ProxyGroups, _> = text.split(';').map(group).collect();
    let groups: ProxyGroups = groups?.into_iter().filter(|group| !group.is_empty()).collect();
    if groups.is_empty() { Err(ProxyError::Missing) } else { Ok(groups) }
}

fn proxy(name: &str) -> Result<Proxy, ProxyError> {
    match name {
        "DIRECT" => Ok(Proxy::Direct),
        "auto" => Err(ProxyError::Automatic),
        name => {
            let url = if name.contains("://") { name.to_owned() } else { format!("http://{name}") };
            let url = without_trailing_slash(&url);
            url::check_http(&url)?;
            Ok(Proxy::Via(url))
        }
    }
}

/// The client's proxies: `CVMFS_HTTP_PROXY`, then `CVMFS_FALLBACK_PROXY`. With fallback proxies, the client never connects directly.
pub fn client_proxies(values: &Values) -> Result<ProxyGroups, ProxyError> {
    let mut groups = proxies(values.get("CVMFS_HTTP_PROXY").map_or("", String::as_str))?;
    let fallback = match proxies(values.get("CVMFS_FALLBACK_PROXY").map_or("", String::as_str)) {
        Err(ProxyError::Missing) => Vec::new(),
        fallback => without_direct(fallback?),
    };
    if !fallback.is_empty() {
        groups = without_direct(groups);
        groups.extend(fallback);
    }
    Ok(groups)
}

fn without_direct(mut groups: ProxyGroups) -> ProxyGroups {
    groups.iter_mut().for_each(|group| group.retain(|proxy| *proxy != Proxy::Direct));
    groups.retain(|group| !group.is_empty());
    groups
}

/// The client's servers: `CVMFS_SERVER_URL`, with placeholders replaced.
pub fn client_servers(values: &Values, fqrn: &str) -> Result<Vec<String>, UrlError> {
    servers(values.get("CVMFS_SERVER_URL").map_or("", String::as_str), fqrn)
}

/// Parses a list of servers separated by `;`, `,` or newlines.
pub fn servers(text: &str, fqrn: &str) -> Result<Vec<String>, UrlError> {
    let names = text.split([';', ',', '\n']).map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| server(name, fqrn)).collect()
}

/// Parses the URL of one server and replaces `@fqrn@` and `@org@`.
pub fn server(text: &str, fqrn: &str) -> Result<String, UrlError> {
    let organisation = fqrn.split('.').next().unwrap_or(fqrn);
    let url = text.replace("@fqrn@", fqrn).replace("@org@", organisation);
    let url = without_trailing_slash(&url);
    url::check_http(&url).map(|()| url)
}

/// The URL without slashes and blanks at its end, to which paths are appended.
fn without_trailing_slash(url: &str) -> String {
    url.trim_end_matches(|c: char| c == '/' || c.is_whitespace()).to_owned()
}

/// Certificate authorities that the client accepts for `https` in addition to the system's: `X509_CERT_BUNDLE`, and `X509_CERT_DIR` or
/// the usual directory of the grid if it exists.
pub fn certificates(values: &Values) -> Vec<PathBuf> {
    let given = |key: &str| values.get(key).map(String::as_str).filter(|path| !path.is_empty()).map(PathBuf::from);
    let directory = given("X509_CERT_DIR").or_else(|| Some(PathBuf::from(GRID)).filter(|path| path.is_dir()));
    given("X509_CERT_BUNDLE").into_iter().chain(directory).collect()
}

/// Timeouts and retries of downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferPolicy {
    /// Without a byte for this long through a proxy, an attempt has failed. `CVMFS_TIMEOUT`.
    pub timeout: Duration,
    /// The same without a proxy. `CVMFS_TIMEOUT_DIRECT`.
    pub timeout_direct: Duration,
    /// Further rounds over all servers after a failed one. `CVMFS_MAX_RETRIES`.
    pub retries: u32,
    /// Pause before the first retry; doubled each time. `CVMFS_BACKOFF_INIT`.
    pub first_backoff: Duration,
    /// The longest pause. `CVMFS_BACKOFF_MAX`.
    pub max_backoff: Duration,
}

impl TransferPolicy {
    /// The client's parameters, clamped to values that make sense for a prefetch; the client's own defaults where they are missing.
    pub fn from_parameters(values: &Values) -> Self {
        let number = |key: &str, default: u64, least: u64, most: u64| {
            let given = values.get(key).and_then(|value| value.trim().parse().ok());
            given.unwrap_or(default).clamp(least, most)
        };
        let seconds = |key, default, least| Duration::from_secs(number(key, default, least, 3600));
        Self {
            timeout: seconds("CVMFS_TIMEOUT", 5, 1),
            timeout_direct: seconds("CVMFS_TIMEOUT_DIRECT", 10, 1),
            retries: number("CVMFS_MAX_RETRIES", 1, 0, 20) as u32,
            first_backoff: seconds("CVMFS_BACKOFF_INIT", 2, 0),
            max_backoff: seconds("CVMFS_BACKOFF_MAX", 10, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn show(groups: &ProxyGroups) -> String {
        let name = |proxy: &Proxy| match proxy {
            Proxy::Direct => "DIRECT".to_owned(),
            Proxy::Via(url) => url.clone(),
        };
        groups.iter().map(|g| g.iter().map(name).collect::<Vec<_>>().join("|")).collect::<Vec<_>>().join(";")
    }

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn proxies_are_grouped_as_the_client_groups_them() {
        for (text, expected) in [
            ("http://a:3128", "http://a:3128"),
            ("a:3128|http://b:3128/;DIRECT", "http://a:3128|http://b:3128;DIRECT"),
            (" http://a:1 | http://b:2 ; ; http://c:3 ;", "http://a:1|http://b:2;http://c:3"),
            ("DIRECT", "DIRECT"),
            ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
        ] {
            assert_eq!(show(&proxies(text).unwrap()), expected, "{text}");
        }
        for (text, expected) in [
            ("auto", "automatic"),
            ("http://a:1;auto", "automatic"),
            ("", "no proxy is configured"),
            (" ; ", "no proxy is configured"),
            ("ftp://a:1", "not an HTTP URL"),
            ("http://a:port", "not a URL"),
        ] {
            let message = proxies(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn fallback_proxies_come_last_and_replace_direct_connections() {
        for (proxy, fallback, expected) in [
            ("http://a:1;DIRECT", "", "http://a:1;DIRECT"),
            ("http://a:1|DIRECT;DIRECT", "http://b:2;http://c:3", "http://a:1;http://b:2;http://c:3"),
            ("http://a:1;DIRECT", "DIRECT", "http://a:1;DIRECT"),
            ("DIRECT", "http://b:2", "http://b:2"),
        ] {
            let values = values(&[("CVMFS_HTTP_PROXY", proxy), ("CVMFS_FALLBACK_PROXY", fallback)]);
            assert_eq!(show(&client_proxies(&values).unwrap()), expected, "{proxy} {fallback}");
        }
        assert_eq!(client_proxies(&Values::new()), Err(ProxyError::Missing));
    }

    #[test]
    fn placeholders_in_server_urls_are_replaced() {
        let text = "http://one/cvmfs/@fqrn@;http://two/@org@/,https://three/opt/@org@";
        let values = values(&[("CVMFS_SERVER_URL", text)]);
        let expected = ["http://one/cvmfs/atlas.cern.ch", "http://two/atlas", "https://three/opt/atlas"];
        assert_eq!(client_servers(&values, "atlas.cern.ch").unwrap(), expected);
        assert!(client_servers(&Values::new(), "atlas.cern.ch").unwrap().is_empty());
        assert!(servers("file:///srv/@fqrn@", "a.b").unwrap_err().to_string().contains("not an HTTP URL"));
    }

    #[test]
    fn certificate_authorities_are_the_clients() {
        let both = values(&[("X509_CERT_BUNDLE", "/b.pem"), ("X509_CERT_DIR", "/d")]);
        assert_eq!(certificates(&both), [PathBuf::from("/b.pem"), PathBuf::from("/d")]);
        let none = values(&[("X509_CERT_BUNDLE", ""), ("X509_CERT_DIR", "")]);
        assert!(certificates(&none).iter().all(|path| path.is_dir()));
    }

    #[test]
    fn timeouts_and_retries_are_the_clients() {
        let seconds = Duration::from_secs;
        let stock = TransferPolicy::from_parameters(&Values::new());
        assert_eq!((stock.timeout, stock.timeout_direct, stock.retries), (seconds(5), seconds(10), 1));
        assert_eq!((stock.first_backoff, stock.max_backoff), (seconds(2), seconds(10)));
        let given = values(&[
            ("CVMFS_TIMEOUT", "3"),
            ("CVMFS_TIMEOUT_DIRECT", "0"),
            ("CVMFS_MAX_RETRIES", "4"),
            ("CVMFS_BACKOFF_INIT", "x"),
            ("CVMFS_BACKOFF_MAX", "99999"),
        ]);
        let given = TransferPolicy::from_parameters(&given);
        assert_eq!((given.timeout, given.timeout_direct, given.retries), (seconds(3), seconds(1), 4));
        assert_eq!((given.first_backoff, given.max_backoff), (seconds(2), seconds(3600)));
    }
}
