//! A prefetch daemon that is absent, hung or killed, and a server with corrupt objects.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::proto::RequestState;
use bundles::object::ObjectKind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, label, with_round_trip};
use testbed::web::LinkSpec;

use crate::support::{FILES, READ_ALL, check_cache, files, publish_bundle, requested_paths, temporary_files};

#[test]
fn a_pod_starts_without_a_prefetch_daemon() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        node.output(&reference, &READ_ALL).await?;
        let log = node.snapshotter_log();
        ensure!(log.contains("prefetch"), "the missing daemon is not logged:\n{log}");
        Ok(())
    });
}

#[test]
fn a_pod_starts_beside_a_hung_prefetch_daemon() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let daemon = Pid::from_raw(node.daemon.as_ref().context("the daemon runs")?.pid() as i32);
        kill(daemon, Signal::SIGSTOP)?;
        let result = node.output(&reference, &READ_ALL).await;
        kill(daemon, Signal::SIGCONT)?;
        result.map(drop)
    });
}

#[test]
fn a_killed_daemon_leaves_whole_objects_and_the_next_finishes() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let first = Node::start(&site, "first", NodeSpec::default()).await?;
        let output = first.output(&reference, &READ_ALL).await?;
        let bundle = publish_bundle(&mut site, &first, &reference, &READ_ALL)?;
        drop(first);

        let mut second = Node::start(&site, "second", NodeSpec::default()).await?;
        // 2 MB at 1 MB/s, so that the daemon can be killed in between.
        site.daemon_link().set(LinkSpec { total_bytes_per_second: Some(1_000_000), ..LinkSpec::default() });
        second.pull(&reference).await?;
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while second.cached()?.len() < FILES / 5 {
            ensure!(std::time::Instant::now() < end, "the daemon fetched nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.daemon.as_mut().context("the daemon runs")?.kill()?;
        let cached = check_cache(&site, &second)?;
        ensure!(cached < bundle.objects.len(), "it had already fetched all {cached} objects");
        site.daemon_link().set(LinkSpec::default());

        ensure!(second.output(&reference, &READ_ALL).await? == output);
        second.start_daemon()?;
        // Its start removes temporary files before it responds.
        second.prefetch().list().await?;
        ensure!(temporary_files(&second)? == 0, "temporary files are left after the next start");
        let id = second.prefetch().prefetch(image_of(&bundle)).await?;
        let status = second.prefetch().wait(id, Duration::from_secs(60)).await?;
        ensure!(status.state() == RequestState::Done, "{status:?}");
        check_cache(&site, &second)?;
        Ok(())
    });
}

fn image_of(bundle: &bundles::bundle::Bundle) -> api::proto::Image {
    api::proto::Image { chain_id: bundle.image.chain_id.to_string(), ..Default::default() }
}

#[test]
fn a_corrupt_object_is_not_cached_and_fails_as_without_prefetch() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let first = Node::start(&site, "first", NodeSpec::default()).await?;
        let bundle = publish_bundle(&mut site, &first, &reference, &READ_ALL)?;
        drop(first);
        let victim = bundle.objects.iter().find(|object| object.path.name() == b"042").context("no /data/042")?;
        site.repository.corrupt_object(&victim.hash, ObjectKind::File)?;

        let with = read_one_by_one(&site, "with", true, &reference).await?;
        let without = read_one_by_one(&site, "without", false, &reference).await?;
        ensure!(with == without, "with prefetch:\n{with}\nwithout:\n{without}");
        ensure!(with.contains("failed: 1"), "the corrupt file was read: {with}");
        Ok(())
    });

    async fn read_one_by_one(site: &Site, name: &str, daemon: bool, reference: &str) -> Result<String> {
        const SCRIPT: &str =
            "failed=0; for f in /data/*; do sha1sum < $f || failed=$((failed+1)); done 2>&1; echo failed: $failed";
        let node = Node::start(site, name, NodeSpec { daemon, ..NodeSpec::default() }).await?;
        node.pull(reference).await?;
        if daemon {
            let requests = node.wait_for_prefetch(reference).await?;
            let request = requests.first().context("no request")?;
            let tally = request.tally.unwrap_or_default();
            ensure!(request.state() == RequestState::Failed && tally.failed_verification == 1, "{request:?}");
            ensure!(tally.failed_objects == 1 && requested_paths(site, label::DAEMON).len() >= FILES, "{request:?}");
        }
        let output = node.output(reference, &["/bin/sh", "-c", SCRIPT]).await?;
        check_cache(site, &node)?;
        Ok(output)
    }
}
