//! Many clients at once, and the invariants that must hold afterwards.

use std::collections::BTreeSet;
use std::path::Path;

use containerd_snapshots::api::snapshots::v1::Info;
use containerd_snapshots::tonic::Code;

use crate::process::{Client, Snapshotter};

const COMMITTED: i32 = 3;
const ACTIVE: i32 = 2;

/// Checks that the listed snapshots and the directories on disk agree, and returns the snapshots.
pub(crate) async fn check_consistent(snapshotter: &Snapshotter, client: &mut Client) -> Vec<Info> {
    let infos = client.list(&[]).await.unwrap();
    let committed: BTreeSet<_> =
        infos.iter().filter(|info| info.kind == COMMITTED).map(|info| info.name.as_str()).collect();
    for info in &infos {
        assert!(info.parent.is_empty() || committed.contains(info.parent.as_str()), "{info:?} has no parent");
    }
    // Each snapshot has one directory and a link to its files; nothing else is there.
    let directories = snapshotter.names("snapshots");
    assert_eq!(directories.len(), infos.len(), "{directories:?}\n{infos:?}");
    let links: BTreeSet<_> = snapshotter.names("l").into_iter().map(|name| name.replace(['a', 'b'], "")).collect();
    assert_eq!(links, directories.iter().cloned().collect());
    for link in snapshotter.names("l") {
        let target = snapshotter.path("root/l").join(&link);
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

/// Prepares, commits and removes layers and containers, with names of its own.
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
async fn many_clients_at_once_leave_a_consistent_state() {
    const CLIENTS: usize = 32;
    const ROUNDS: usize = 32;
    let mut snapshotter = Snapshotter::start(&[], 1000);
    let mut clients = Vec::new();
    for name in 0..CLIENTS {
        clients.push(tokio::spawn(churn(snapshotter.connect().await, name, ROUNDS)));
    }
    // All of them prepare one key: one succeeds.
    let mut contenders = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = snapshotter.connect().await;
        contenders.push(tokio::spawn(async move { client.prepare("contended", "", &[]).await.is_ok() }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let mut winners = 0;
    for contender in contenders {
        winners += usize::from(contender.await.unwrap());
    }
    assert_eq!(winners, 1);
    // For each client: its base, and a layer and a container of every fourth round.
    let mut expected = BTreeSet::from(["contended".to_owned()]);
    for name in 0..CLIENTS {
        expected.insert(format!("base{name}"));
        for round in (3..ROUNDS).step_by(4) {
            expected.extend([format!("{name}-{round}"), format!("layer{name}-{round}")]);
        }
    }
    for _ in 0..2 {
        let infos = check_consistent(&snapshotter, &mut snapshotter.connect().await).await;
        assert_eq!(infos.into_iter().map(|info| info.name).collect::<BTreeSet<_>>(), expected);
        snapshotter.crash_and_restart();
    }
    let counter = snapshotter.stop();
    assert_eq!(counter("deferred_removals", "disk"), 0);
}
