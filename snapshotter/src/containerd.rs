//! containerd's configuration: what it must say for this plugin to be used, and whether it does.
//!
//! Keys and their places: `docs/cri/config.md` and `docs/PLUGINS.md` of containerd. Version 2 of the file is that of
//! containerd 1.6 and 1.7, version 3 that of containerd 2.

use std::path::Path;

use toml::{Table, Value};

/// The name by which containerd and Kubernetes call this plugin, unless the site chooses another.
pub const NAME: &str = "cvmfs-prefetch";
/// Where containerd's configuration is.
pub const PATH: &str = "/etc/containerd/config.toml";
/// CRI's settings of images, in files of version 3 and of version 2.
const PLUGINS: [&str; 2] = ["io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri"];

/// What to write into containerd's configuration; `major` is containerd's version.
pub fn snippet(major: u32, socket: &Path) -> String {
    let (version, plugin) = match major {
        0..=1 => (2, "[plugins.\"io.containerd.grpc.v1.cri\".containerd]"),
        _ => (3, "[plugins.\"io.containerd.cri.v1.images\"]"),
    };
    let local_pull = match major {
        0..=1 => "",
        // Since containerd 2.1; older ones do not know the key and ignore it.
        _ => {
            "# The transfer service does not give the labels by which layers are found.\nuse_local_image_pull = true\n"
        }
    };
    format!(
        "version = {version}\n\n\
         [proxy_plugins.{NAME}]\n\
         type = \"snapshot\"\n\
         address = {socket:?}\n\n\
         {plugin}\n\
         snapshotter = \"{NAME}\"\n\
         # Without this, layers cannot be found in CVMFS.\n\
         disable_snapshot_annotations = false\n{local_pull}"
    )
}

/// What is wrong with a configuration file of containerd, each with what to do; nothing if it has this plugin used.
pub fn problems(text: &str, socket: &Path) -> Vec<String> {
    let config: Table = match toml::from_str(text) {
        Ok(config) => config,
        Err(error) => return vec![format!("it cannot be read: {error}")],
    };
    let snapshots = |(_, plugin): &(&String, &Value)| {
        let is = |key, wanted: &str| plugin.get(key).and_then(Value::as_str) == Some(wanted);
        is("type", "snapshot") && is("address", &socket.to_string_lossy())
    };
    let plugins = config.get("proxy_plugins").and_then(Value::as_table);
    let Some((name, plugin)) = plugins.into_iter().flatten().find(snapshots) else {
        return vec![format!(
            "no proxy_plugins entry has type \"snapshot\" and the address {socket:?}: add what `config containerd` prints"
        )];
    };
    let mut problems = Vec::new();
    let capabilities = plugin.get("capabilities").and_then(Value::as_array).into_iter().flatten();
    if capabilities.filter_map(Value::as_str).any(|capability| capability == "remap-ids") {
        problems.push(format!("proxy_plugins.{name} announces remap-ids, which this plugin cannot do: take it out"));
    }
    let Some(cri) = cri(&config) else {
        problems.push(format!("CRI has no setting of its snapshotter: set snapshotter = {name:?} there"));
        return problems;
    };
    let of_runtimes = cri.get("runtimes").and_then(Value::as_table).into_iter().flatten();
    let mut used = of_runtimes.map(|(_, runtime)| runtime).chain([&cri]).filter_map(|at| at.get("snapshotter"));
    if !used.any(|used| used.as_str() == Some(name)) {
        problems.push(format!("neither CRI nor one of its runtimes has snapshotter = {name:?}: pods do not use it"));
    }
    if cri.get("disable_snapshot_annotations").and_then(Value::as_bool) != Some(false) {
        problems
            .push("CRI lacks disable_snapshot_annotations = false: no layer is found in CVMFS without it".to_owned());
    }
    problems
}

/// CRI's settings of images and runtimes, wherever they are.
fn cri(config: &Table) -> Option<Value> {
    let plugins = config.get("plugins")?;
    let [images, old] = PLUGINS.map(|name| plugins.get(name));
    match images {
        None => old?.get("containerd").cloned(),
        Some(images) => {
            let mut images = images.as_table()?.clone();
            // Since version 3 the runtimes are another plugin's.
            let runtime = plugins.get("io.containerd.cri.v1.runtime").and_then(|runtime| runtime.get("containerd"));
            if let Some(runtimes) = runtime.and_then(|runtime| runtime.get("runtimes")) {
                images.insert("runtimes".to_owned(), runtimes.clone());
            }
            Some(Value::Table(images))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: &str = "/run/x.sock";

    fn found(text: &str) -> Vec<String> {
        problems(text, Path::new(SOCKET))
    }

    #[test]
    fn what_is_printed_is_what_is_wanted() {
        for major in [1, 2] {
            let snippet = snippet(major, Path::new(SOCKET));
            assert_eq!(found(&snippet), Vec::<String>::new(), "{snippet}");
            for (line, problem) in [
                ("snapshotter =", "pods do not use it"),
                ("disable_snapshot_annotations", "no layer is found"),
                ("address", "config containerd"),
            ] {
                let kept: Vec<&str> = snippet.lines().filter(|kept| !kept.starts_with(line)).collect();
                let found = found(&kept.join("\n"));
                assert!(found.len() == 1 && found[0].contains(problem), "{major} without {line}: {found:?}");
            }
        }
    }

    #[test]
    fn a_runtime_of_its_own_is_enough() {
        let plugin = "[proxy_plugins.mine]\ntype = \"snapshot\"\naddress = \"/run/x.sock\"\n";
        let two = "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndisable_snapshot_annotations = false\n\
                   [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.lazy]\nsnapshotter = \"mine\"\n";
        let three = "[plugins.\"io.containerd.cri.v1.images\"]\ndisable_snapshot_annotations = false\n\
                     [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.lazy]\nsnapshotter = \"mine\"\n";
        for cri in [two, three] {
            assert_eq!(found(&format!("{plugin}{cri}")), Vec::<String>::new(), "{cri}");
        }
        let remapping = format!("{plugin}capabilities = [\"remap-ids\"]\n{two}");
        assert!(found(&remapping).iter().any(|problem| problem.contains("take it out")));
        assert!(found("= x").iter().any(|problem| problem.contains("cannot be read")));
        assert!(found(plugin).iter().any(|problem| problem.contains("CRI has no setting")));
    }
}
