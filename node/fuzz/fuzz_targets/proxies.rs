//! Lists of proxies. A list that is accepted has no empty group, and is the same when it is written and read again.
#![no_main]

use node_fuzz::proxy::Proxy;
use node_fuzz::transfer::{self, ProxyGroups};

fn written(groups: &ProxyGroups) -> String {
    let name = |proxy: &Proxy| match proxy {
        Proxy::Direct => "DIRECT".to_owned(),
        Proxy::Via(url) => url.clone(),
    };
    let group = |group: &Vec<Proxy>| group.iter().map(name).collect::<Vec<_>>().join("|");
    groups.iter().map(group).collect::<Vec<_>>().join(";")
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(groups) = transfer::proxies(text) {
        assert!(!groups.is_empty() && groups.iter().all(|group| !group.is_empty()), "{groups:?}");
        assert_eq!(transfer::proxies(&written(&groups)).as_ref(), Ok(&groups));
    }
});
