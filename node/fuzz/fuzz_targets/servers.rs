//! Lists of servers. A server that is accepted is an HTTP URL without a placeholder and without a slash at its end.
#![no_main]

use node_fuzz::transfer;

libfuzzer_sys::fuzz_target!(|text: &str| {
    for server in transfer::servers(text, "atlas.cern.ch").unwrap_or_default() {
        assert!(server.contains(':') && !server.ends_with('/'), "{server}");
        assert!(!server.contains("@fqrn@") && !server.contains("@org@"), "{server}");
        assert_eq!(transfer::server(&server, "atlas.cern.ch").as_ref(), Ok(&server));
    }
});
