//! containerd with its own overlayfs snapshotter.

use std::process::Command;

use anyhow::Context;
use testbed::containerd::{Containerd, ContainerdSpec};
use testbed::images::{busybox, pause};
use testbed::namespace::{self, SiteDirectory};
use testbed::process::run_command;
use testbed::registry::Registry;
use testbed::site::image_cache;
use testbed::web::{LinkEmulator, LinkSpec};
use tracer_ebpf::cri::pod::PodSpec;

#[test]
fn a_pod_runs_and_stopping_containerd_leaves_nothing() {
    namespace::test(|| async {
        let directory = SiteDirectory::new("containerd-test")?;
        let site = directory.path();
        let cache = image_cache()?;
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
        // A sandbox that is still running when containerd stops.
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
fn images_are_pulled_over_the_link_to_the_registry() {
    namespace::test(|| async {
        let directory = SiteDirectory::new("far-registry")?;
        let site = directory.path();
        let registry = Registry::start(&site.join("registry"))?;
        let image = busybox(&image_cache()?)?;
        registry.push(&image).await?;
        // The name does not resolve, so an image can only come over the link.
        let name = "registry.testbed.example:5000";
        let link = LinkEmulator::start(registry.address().parse()?, LinkSpec::default())?;
        for (name_of_case, is_reached) in [("unreachable", false), ("far", true)] {
            let spec = ContainerdSpec {
                registries: vec![name.to_owned()],
                registry_link: is_reached.then(|| link.address()),
                ..ContainerdSpec::default()
            };
            let containerd = Containerd::start(&site.join(name_of_case), &spec).await?;
            let pulled = containerd.cri().await?.pull(&image.reference(name)).await;
            assert_eq!(pulled.is_ok(), is_reached, "{name_of_case}: {pulled:?}");
        }
        Ok(())
    });
}
