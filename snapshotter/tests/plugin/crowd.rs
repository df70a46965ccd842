//! Many clients at once, and what must hold whatever they did.

use std::collections::BTreeSet;
use std::path::Path;

use containerd_snapshots::api::snapshots::v1::Info;
use containerd_snapshots::tonic::Code;

use crate::plugin::{Client, Plugin};

const COMMITTED: i32 = 3;
const ACTIVE: i32 = 2;

/// Checks that what the plugin tells and what it has on disk fit together, and returns all that it tells.
pub(crate) async fn check_consistent(plugin: &Plugin, client: &mut Client) -> Vec<Info> {
    let infos = client.list(&[]).await.unwrap();
    let committed: BTreeSet<_> =
        infos.iter().filter(|info| info.kind == COMMITTED).map(|info| info.name.as_str()).collect();
    for info in &infos {
        assert!(info.parent.is_empty() || committed.contains(info.parent.as_str()), "{info:?} has no parent");
    }
    // One directory for each, with a link to its files; nothing else.
    let directories = plugin.names("snapshots");
    assert_eq!(directories.len(), infos.len(), "{directories:?}\n{infos:?}");
    let links: BTreeSet<_> = plugin.names("l").into_iter().map(|name| name.replace(['a', 'b'], "")).collect();
    assert_eq!(links, directories.iter().cloned().collect());
    for link in plugin.names("l") {
        let target = plugin.path("root/l").join(&link);
        assert!(target.is_dir(), "{link} leads nowhere");
    }
    for info in infos.iter().filter(|info| info.kind != COMMITTED) {
        let mounts = client.mounts(&info.name).await.unwrap();
        let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
        let options = mount.options.iter().filter_map(|option| option.split_once("dir="));
        let paths = options
            .flat_map(|(_, paths)| paths.split(':'))
            .chain(mount.source.strip_prefix('/').map(|_| &*mount.source));
        let mut count = 0;
        for path in paths {
            assert!(Path::new(path).is_dir(), "{path} of {info:?} is missing");
            count += 1;
        }
        assert!(count > 0 && (info.kind != ACTIVE || info.parent.is_empty() || count > 2), "{mount:?}");
    }
    infos
}

/// Makes, commits and removes layers and containers, in a name space of its own.
async fn churn(mut client: Client, name: usize, rounds: usize) {
    let base = format!("base{name}");
    client.prepare(&format!("{name}"), "", &[]).await.unwrap();
    client.commit(&format!("{name}"), &base, &[]).await.unwrap();
    for round in 0..rounds {
        let (key, layer) = (format!("{name}-{round}"), format!("layer{name}-{round}"));
        client.prepare(&key, &base, &[]).await.unwrap();
        client.commit(&key, &layer, &[]).await.unwrap();
        client.prepare(&key, &layer, &[]).await.unwrap();
        assert_eq!(client.remove(&layer).await.unwrap_err(), Code::FailedPrecondition);
        if round % 8 == 0 {
            client.cleanup().await.unwrap();
        }
        assert_eq!(client.mounts(&key).await.unwrap().len(), 1);
        if round % 4 != 3 {
            client.remove(&key).await.unwrap();
            client.remove(&layer).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_rounds_of_many_clients_end_in_a_consistent_state() {
    const CLIENTS: usize = 32;
    const ROUNDS: usize = 32;
    let mut plugin = Plugin::start(&[], 1000);
    let mut clients = Vec::new();
    for name in 0..CLIENTS {
        clients.push(tokio::spawn(churn(plugin.connect().await, name, ROUNDS)));
    }
    // All of them want one more: one gets it.
    let mut contenders = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = plugin.connect().await;
        contenders.push(tokio::spawn(async move { client.prepare("wanted", "", &[]).await.is_ok() }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let mut winners = 0;
    for contender in contenders {
        winners += usize::from(contender.await.unwrap());
    }
    assert_eq!(winners, 1);
    // Per client: its base, and a layer and a container for each fourth round.
    let mut expected = BTreeSet::from(["wanted".to_owned()]);
    for name in 0..CLIENTS {
        expected.insert(format!("base{name}"));
        for round in (3..ROUNDS).step_by(4) {
            expected.extend([format!("{name}-{round}"), format!("layer{name}-{round}")]);
        }
    }
    for _ in 0..2 {
        let infos = check_consistent(&plugin, &mut plugin.connect().await).await;
        assert_eq!(infos.into_iter().map(|info| info.name).collect::<BTreeSet<_>>(), expected);
        plugin.crash_and_restart();
    }
    let counter = plugin.stop();
    assert_eq!(counter("removals_deferred"), 0);
}
