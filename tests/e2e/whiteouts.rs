//! Deleted and replaced files, as seen from inside a container.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::images;
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, image_cache, with_round_trip};

/// Every path of the root file system with type, mode, owner and, for what is not a directory, size and time; then the
/// content of every file and the target of every link. A directory's size and time change with the runtime's mount
/// points, and three files in /etc belong to the pod. Link counts are omitted: the publisher makes hard links separate files.
const LOOK: &str = r#"
find / -xdev | grep -vE "^/etc/(hosts|hostname|resolv.conf)$" | sort | while IFS= read -r path; do
    if [ -L "$path" ]; then echo "link $path -> $(readlink "$path") $(stat -c '%a %u %g' "$path")"
    elif [ -d "$path" ]; then echo "dir $path $(stat -c '%a %u %g' "$path")"
    elif [ -f "$path" ]; then echo "file $path $(stat -c '%a %u %g %s %Y' "$path") $(sha1sum < "$path")"
    else echo "other $path $(stat -c '%F %a %u %g' "$path")"
    fi
done
ls -la /srv /srv/opaque
cat /srv/kept /srv/replaced
cat /srv/deleted-file 2>&1
"#;

#[test]
fn a_container_sees_the_same_tree_as_with_containerds_overlayfs() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = images::whiteouts(&image_cache()?)?;
        let reference = site.publish(&image).await?;
        let look = ["/bin/sh", "-c", LOOK];
        let ours = Node::start(&site, "ours", NodeSpec::default()).await?;
        let theirs =
            Node::start(&site, "theirs", NodeSpec { snapshotter: false, daemon: false, ..NodeSpec::default() }).await?;
        let (ours, theirs) = (listing(&ours, &reference, &look).await?, listing(&theirs, &reference, &look).await?);
        ensure!(theirs.iter().filter(|line| line.contains(" /srv/")).count() > 20, "nothing to compare: {theirs:?}");
        for (line, other) in ours.iter().zip(&theirs) {
            ensure!(line == other, "with us:   {line}\nwith them: {other}");
        }
        ensure!(
            ours.len() == theirs.len(),
            "{} lines with our snapshotter, {} with overlayfs",
            ours.len(),
            theirs.len()
        );
        Ok(())
    });
}

async fn listing(node: &Node, reference: &str, look: &[&str]) -> Result<Vec<String>> {
    let outcome = node.run(reference, look).await?;
    // `ls -la` shows sizes and times of directories, which differ; its names do not.
    let names = |line: &str| match line.starts_with(['d', 'l', '-']) && line.contains(" root ") {
        true => line.rsplit(' ').next().unwrap_or_default().to_owned(),
        false if line.starts_with("total ") => "total".to_owned(),
        false => line.to_owned(),
    };
    Ok(outcome.output.stdout.lines().map(names).collect())
}

#[test]
fn a_deleted_file_stays_deleted_for_writers_too() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&images::whiteouts(&image_cache()?)?).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let script = "set -e; test ! -e /srv/deleted-file; echo new > /srv/deleted-file; cat /srv/deleted-file; \
                      echo more >> /srv/kept; rm /srv/replaced; test ! -e /srv/replaced; mkdir /srv/emptied; \
                      ls -a /srv/emptied | wc -l";
        let output = node.output(&reference, &["/bin/sh", "-c", script]).await?;
        ensure!(output.split_whitespace().collect::<Vec<_>>() == ["new", "2"], "{output}");
        // Writes of one container are invisible to the next.
        let output =
            node.output(&reference, &["/bin/sh", "-c", "test ! -e /srv/deleted-file && cat /srv/kept"]).await?;
        ensure!(!output.contains("more"), "{output}");
        Ok(())
    });
}
