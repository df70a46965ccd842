#![allow(clippy::unwrap_used)]

use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/config/prefetchd.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("test.toml"))
}

#[test]
fn the_example_is_accepted_and_documents_the_defaults() {
    let config = parse(EXAMPLE).unwrap();
    let repository = &config.repositories[0];
    assert_eq!(repository.mount(), Path::new("/cvmfs/unpacked.example.org"));
    // Every commented key, put in force, changes nothing, but for what is otherwise learned from the client.
    assert_ne!(spelled().lines().collect::<Vec<_>>(), EXAMPLE.lines().collect::<Vec<_>>());
    let mut spelled = parse(&spelled()).unwrap();
    assert_eq!(spelled.max_bytes_per_second.take(), Some(125_000_000));
    // The larger of the two defaults.
    assert_eq!(spelled.disk_reserve.take(), Some(0.15));
    // What is off unless it is given.
    assert!(spelled.socket_owner.take().is_some() && spelled.socket_group.take().is_some());
    assert!(spelled.metrics_address.take().is_some() && spelled.tcp.take().is_some());
    let learned = &mut spelled.repositories[0];
    let servers = learned.servers.take().unwrap();
    assert_eq!(servers[1], "http://stratum-two.example.org/cvmfs/unpacked.example.org");
    assert!(learned.proxy.take().unwrap().contains("squid-two.example.org:3128;DIRECT"));
    assert_eq!(learned.mount.take().unwrap(), repository.mount());
    assert_eq!(learned.certificates.take().unwrap(), Path::new("/etc/grid-security/certificates"));
    assert_eq!(learned.cache.take().unwrap(), Path::new("/var/lib/cvmfs/shared"));
    assert_eq!(learned.workspace.take().unwrap(), Path::new("/var/lib/cvmfs/shared"));
    assert_eq!(learned.quota_mb.take().unwrap(), 4000);
    assert_eq!(format!("{spelled:?}"), format!("{config:?}"));
}

/// The example with every commented key in force.
fn spelled() -> String {
    EXAMPLE.lines().map(uncommented).collect()
}

fn uncommented(line: &str) -> String {
    let is_key = |l: &&str| *l == "[tcp]" || l.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
    format!("{}\n", line.strip_prefix("# ").filter(is_key).unwrap_or(line))
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let cases = [
        ("max_conections = 3", "max_conections"),
        ("socket_mode = 660", "0o660"),
        ("max_connections = 0", "max_connections"),
        ("timeout = \"0s\"", "timeout: 0s is not between"),
        ("timeout = 5", "timeout"),
        ("lookup_timeout = \"2h\"", "lookup_timeout"),
        ("max_bytes_per_second = 1023", "max_bytes_per_second: less than 1024"),
        ("max_requests_per_second = 0", "max_requests_per_second: 0 allows no request"),
        ("retries = 99", "retries"),
        ("store_max_bytes = 256", "store_max_bytes: less than 1048576"),
        ("page_cache_threads = 9", "page_cache_threads"),
        ("store = \"here\"", "store: here is not an absolute path"),
        ("client_config = \"here\"", "client_config: here is not an absolute path"),
        ("cache_share = 0.0", "cache_share: not above 0"),
        ("cache_share = 1.5", "cache_share"),
        ("cache_share = nan", "cache_share"),
        ("cache_share_per_hour = 0.0", "cache_share_per_hour: not above 0"),
        ("cache_share_per_hour = inf", "cache_share_per_hour"),
        ("disk_reserve = 15", "disk_reserve: not from 0"),
        ("disk_reserve = -0.1", "disk_reserve"),
    ];
    for (line, expected) in cases {
        let message = parse(&format!("{line}\n{EXAMPLE}")).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("test.toml"), "{line}: {message}");
    }
    let cases = [
        ("name = \"unpacked.example.org\"", "name = \"../x\"", "name: not a fully qualified"),
        ("cache = \"/var/lib", "cache = \"lib", "cache: lib/cvmfs/shared is not an absolute"),
        ("cache = ", "cash = ", "cash"),
        ("http://stratum-two", "ftp://stratum-two", "servers: \"ftp://"),
        ("http://stratum-two", "stratum-two", "servers: \"stratum-two"),
        ("servers = [", "servers = [] # ", "servers: empty"),
        ("http://squid-two", "ftp://squid-two", "proxy: \"ftp://"),
        (";DIRECT\"", ";auto\"", "proxy: proxies are configured automatically"),
        ("certificates = \"/", "certificates = \"", "certificates: etc/grid-security"),
        ("workspace = \"/", "workspace = \"", "workspace: var/lib"),
        ("destination = \"auto\"", "destination = \"fast\"", "destination"),
    ];
    for (from, to, expected) in cases {
        let message = parse(&spelled().replace(from, to)).unwrap_err().to_string();
        assert!(message.contains(expected), "{to}: {message}");
    }
    let twice = format!("{EXAMPLE}{}", &EXAMPLE[EXAMPLE.find("[[").unwrap()..]);
    assert!(parse(&twice).unwrap_err().to_string().contains("given twice"));
    assert!(parse("").unwrap().repositories.is_empty());
}

#[test]
fn the_api_over_tcp_wants_all_its_files() {
    let tcp = "[tcp]\naddress = \"127.0.0.1:1\"\ncertificate = \"/c\"\nkey = \"/k\"\nclient_ca = \"/a\"\n";
    let with_tcp =
        |from: &str, to: &str| parse(&EXAMPLE.replace("[[repo", &format!("{}[[repo", tcp.replace(from, to))));
    assert!(with_tcp("", "").is_ok());
    for (line, missing) in [
        ("address = \"127.0.0.1:1\"", "address"),
        ("certificate = \"/c\"", "certificate"),
        ("key = \"/k\"", "key"),
        ("client_ca = \"/a\"", "client_ca"),
    ] {
        let message = with_tcp(line, "").unwrap_err().to_string();
        assert!(message.contains(&format!("missing field `{missing}`")), "{message}");
    }
    let message = with_tcp("/k", "k").unwrap_err().to_string();
    assert!(message.contains("tcp: key: k is not an absolute path"), "{message}");
}
