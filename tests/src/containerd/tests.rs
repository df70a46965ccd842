//! containerd with its own overlayfs snapshotter.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::images::{busybox, pause};
use crate::namespace::{self, SiteDirectory};
use crate::registry::Registry;
use tracer::cri::pod::PodSpec;

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
        let left = tracer::cri::SandboxSpec { name: "left".to_owned(), uid: "1".to_owned(), ..pod.sandbox };
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
#[ignore]
fn trial() {
    namespace::test(|| async {
        let directory = SiteDirectory::new("trial")?;
        let site = directory.path();
        let cache = cache()?;
        let registry = Registry::start(&site.join("registry"))?;
        let image = crate::images::whiteouts(&cache)?;
        let reference = registry.push(&image).await?;
        let sandbox_image = registry.push(&pause(&cache)?).await?;
        let spec = ContainerdSpec {
            registries: vec![registry.address().to_owned()],
            sandbox_image,
            ..ContainerdSpec::default()
        };
        let list = "cd /srv; find . -exec stat -c '%n %F %a %u %g %s %Y %h' {} + | sort; find . -type f -exec md5sum {} + | sort; find . -type l -exec readlink {} + | sort; ls -la / /srv; touch /srv/x && rm /srv/kept && ls /srv";
        let run = async |name: &str, containerd: &Containerd| -> Result<String> {
            let mut cri = containerd.cri().await?;
            let mut pod = PodSpec::new(&reference, &["/bin/sh", "-c", list], &site.join(name).join("logs"));
            pod.sandbox.cgroup_parent = namespace::cgroup_parent();
            let outcome = cri.run_pod(&pod).await?;
            println!("{name}: {:?} {:?}", outcome.timings, outcome.exit);
            println!("{}", containerd.ctr(&["content", "ls"])?);
            println!("{}", containerd.ctr(&["images", "ls"])?);
            Ok(outcome.output.stdout + &outcome.output.stderr)
        };
        let own = Containerd::start(&site.join("own"), &spec).await?;
        let expected = run("own", &own).await?;
        drop(own);
        std::fs::write("/tmp/own.txt", &expected)?;
        let mount = site.join("mount");
        // 0: all layers, 1..: without layer n
        for skip in [9, 0, 1, 2, 3] {
            let name = format!("ours{skip}");
            let mount = mount.join(&name);
            std::fs::create_dir_all(mount.join(".layers"))?;
            for (index, layer) in image.layers.iter().enumerate() {
                if index == skip { continue }
                let hex = layer.digest.hex();
                let layerfs = mount.join(".layers").join(&hex[..2]).join(&hex).join("layerfs");
                std::fs::create_dir_all(&layerfs)?;
                run_command(Command::new("tar").arg("-xpf").arg(&layer.blob).arg("-C").arg(&layerfs).arg("--numeric-owner"))?;
            }
            let base = site.join(&name);
            std::fs::create_dir_all(&base)?;
            let socket = base.join("snap.sock");
            let config = format!("socket = {:?}\nroot = {:?}\nprefetch_socket = {:?}\n[[repositories]]\nname = \"unpacked.test\"\nmount = {:?}\n", socket, base.join("root"), base.join("none.sock"), mount);
            std::fs::write(base.join("snap.toml"), config)?;
            let mut command = Command::new(std::env::var("SNAPSHOTTER_BIN")?);
            command.arg("--config").arg(base.join("snap.toml")).env("RUST_LOG", "debug,h2=info,hyper=info");
            let mut snapshotter = Daemon::start("snapshotter", &mut command, &base)?;
            snapshotter.wait_until("its socket", READY, || UnixStream::connect(&socket).is_ok())?;
            let spec = ContainerdSpec { snapshotter: Some(("cvmfs-prefetch".to_owned(), socket.clone())), default_snapshotter: "cvmfs-prefetch".to_owned(), ..spec.clone() };
            let ours = Containerd::start(&base.join("c"), &spec).await?;
            let found = run(&name, &ours).await;
            println!("{}", snapshotter.log());
            println!("{}", ours.ctr(&["snapshots", "--snapshotter", "cvmfs-prefetch", "ls"])?);
            let found = found?;
            std::fs::write(format!("/tmp/{name}.txt"), &found)?;
            if skip == 2 {
                snapshotter.stop(READY)?;
                snapshotter = Daemon::start("snapshotter", &mut command, &base)?;
                snapshotter.wait_until("its socket", READY, || UnixStream::connect(&socket).is_ok())?;
                let again = run(&name, &ours).await?;
                std::fs::write(format!("/tmp/{name}-again.txt"), &again)?;
            }
            let mut cri = ours.cri().await?;
            cri.remove_image(&reference).await?;
            cri.remove_image(&spec.sandbox_image).await?;
            println!("left {:?} {:?}", run_command(Command::new("ls").arg(base.join("root/snapshots")).arg(base.join("root/l")))?, ours.ctr(&["snapshots", "--snapshotter", "cvmfs-prefetch", "ls"])?);
            snapshotter.stop(READY)?;
            println!("END {}", snapshotter.log().lines().rev().take(2).collect::<Vec<_>>().join("\n"));
            println!("CLOG {}", ours.log().lines().filter(|l| l.contains("level=error")||l.contains("level=warn")).collect::<Vec<_>>().join("\n"));
        }
        Ok(())
    });
}
