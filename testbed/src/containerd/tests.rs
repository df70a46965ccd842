//! containerd with its own overlayfs snapshotter.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::images::{busybox, pause};
use crate::namespace::{self, SiteDirectory};
use crate::registry::Registry;
use crate::web::{Line, LineSpec};
use tracer_ebpf::cri::pod::PodSpec;

fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("no HOME for the cache of images")?;
    Ok(Path::new(&home).join(".cache/cvmfs-prefetch/images"))
}

#[test]
fn a_pod_runs_and_leaves_nothing() {
    namespace::test(|| async {
        let directory = SiteDirectory::new("containerd-test")?;
        let site = directory.path();
        let cache = cache()?;
        let registry = Registry::start(&site.join("registry"))?;
        let image = busybox(&cache)?;
        let reference = registry.push(&image).await?;
        let spec = ContainerdSpec {
            registries: vec![registry.address().to_owned()],
            sandbox_image: registry.push(&pause(&cache)?).await?,
            ..ContainerdSpec::default()
        };
        let mut containerd = Containerd::start(&site.join("containerd"), &spec).await?;
        let mut cri = containerd.cri().await?;
        assert_eq!(cri.image_status(&reference).await?, None);
        let command = ["/bin/sh", "-c", "echo $GREETING; echo bad >&2; cat /proc/1/cgroup; exit 7"];
        let mut pod = PodSpec::new(&reference, &command, &site.join("logs"));
        pod.sandbox.cgroup_parent = namespace::cgroup_parent();
        pod.container.env.push(("GREETING".to_owned(), "good day".to_owned()));
        let outcome = cri.run_pod(&pod).await?;
        assert_eq!(outcome.exit.code, 7);
        assert!(outcome.output.stdout.starts_with("good day\n"), "{outcome:?}");
        assert_eq!(outcome.output.stderr, "bad\n");
        let info = cri.image_status(&reference).await?.context("the image is gone")?;
        assert_eq!((info.chain_id, info.manifest), (image.chain_id(), Some(image.manifest_digest())));
        assert_eq!(cri.sandboxes().await?, Vec::<String>::new());
        containerd.restart().await?;
        let mut cri = containerd.cri().await?;
        assert!(cri.image_status(&reference).await?.is_some());
        cri.remove_image(&reference).await?;
        assert_eq!(cri.image_status(&reference).await?, None);
        // A sandbox that nobody stops.
        let left = tracer_ebpf::cri::SandboxSpec { name: "left".to_owned(), uid: "1".to_owned(), ..pod.sandbox };
        cri.run_sandbox(&left).await?;
        containerd.stop()?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        assert!(!mounts.contains(&*site.join("containerd").to_string_lossy()), "{mounts}");
        let processes = run_command(Command::new("ps").arg("-ef"))?;
        assert!(!processes.contains("sleep infinity") && !processes.contains("containerd-shim"), "{processes}");
        Ok(())
    });
}

#[test]
fn images_come_over_the_line_to_the_registry() {
    namespace::test(|| async {
        let directory = SiteDirectory::new("far-registry")?;
        let site = directory.path();
        let registry = Registry::start(&site.join("registry"))?;
        let image = busybox(&cache()?)?;
        registry.push(&image).await?;
        // Nobody answers at this name: what comes, comes over the line.
        let name = "registry.testbed.example:5000";
        let line = Line::start(registry.address().parse()?, LineSpec::default())?;
        for (at, is_reached) in [("lineless", false), ("far", true)] {
            let spec = ContainerdSpec {
                registries: vec![name.to_owned()],
                registry_line: is_reached.then(|| line.address()),
                ..ContainerdSpec::default()
            };
            let containerd = Containerd::start(&site.join(at), &spec).await?;
            let pulled = containerd.cri().await?.pull(&image.reference(name)).await;
            assert_eq!(pulled.is_ok(), is_reached, "{at}: {pulled:?}");
        }
        Ok(())
    });
}
