//! containerd's configuration: what it needs to use this snapshotter, and whether a file has it.
//!
//! Keys and their places: `docs/cri/config.md` and `docs/PLUGINS.md` of containerd. Version 2 of the file belongs to containerd
//! 1.6 and 1.7, version 3 to containerd 2.

use std::path::Path;

use toml::{Table, Value};

/// The name of this snapshotter in containerd and Kubernetes, unless the site chooses another.
pub const NAME: &str = "cvmfs-prefetch";
/// containerd's default configuration file.
pub const PATH: &str = "/etc/containerd/config.toml";
/// CRI's settings of images, in files of version 3.
const CRI_IMAGES: &str = "io.containerd.cri.v1.images";
/// CRI's settings of runtimes, in files of version 3.
const CRI_RUNTIME: &str = "io.containerd.cri.v1.runtime";
/// All settings of CRI, in files of version 2.
const CRI_V2: &str = "io.containerd.grpc.v1.cri";

/// The lines to write into containerd's configuration; `major` is containerd's major version.
pub fn snippet(major: u32, socket: &Path) -> String {
    let version_2 = major < 2;
    let version = if version_2 { 2 } else { 3 };
    let plugin =
        if version_2 { format!("[plugins.\"{CRI_V2}\".containerd]") } else { format!("[plugins.\"{CRI_IMAGES}\"]") };
    // Since containerd 2.1; containerd 2.0 ignores the key.
    let local_pull = if version_2 {
        ""
    } else {
        "# The transfer service does not pass the labels that the lookup of layers needs.\nuse_local_image_pull = true\n"
    };
    format!(
        "version = {version}\n\n\
         [proxy_plugins.{NAME}]\n\
         type = \"snapshot\"\n\
         address = {socket:?}\n\n\
         {plugin}\n\
         snapshotter = \"{NAME}\"\n\
         # Without this, no layer can be taken from CVMFS.\n\
         disable_snapshot_annotations = false\n{local_pull}"
    )
}

/// What is wrong with a configuration file of containerd, each with what to do; empty if containerd uses this snapshotter.
pub fn problems(text: &str, socket: &Path) -> Vec<String> {
    let config: Table = match toml::from_str(text) {
        Ok(config) => config,
        Err(error) => return vec![format!("cannot parse it: {error}")],
    };
    let Some((name, plugin)) = proxy_plugin(&config, socket) else {
        return vec![format!(
            "no entry of proxy_plugins has type \"snapshot\" and the address {socket:?}: add the output of `config containerd`"
        )];
    };
    let mut problems = Vec::new();
    let capabilities = plugin.get("capabilities").and_then(Value::as_array).into_iter().flatten();
    if capabilities.filter_map(Value::as_str).any(|capability| capability == "remap-ids") {
        problems.push(format!(
            "proxy_plugins.{name} announces the capability remap-ids, which this snapshotter does not have: remove it"
        ));
    }
    let Some(cri) = cri(&config) else {
        problems.push(format!("CRI has no snapshotter configured: set snapshotter = {name:?}"));
        return problems;
    };
    let runtimes = cri.get("runtimes").and_then(Value::as_table).into_iter().flatten().map(|(_, runtime)| runtime);
    let mut configured = runtimes.chain([&cri]).filter_map(|section| section.get("snapshotter"));
    if !configured.any(|snapshotter| snapshotter.as_str() == Some(name)) {
        problems.push(format!("pods do not use it: set snapshotter = {name:?} for CRI or one of its runtimes"));
    }
    if cri.get("disable_snapshot_annotations").and_then(Value::as_bool) != Some(false) {
        problems.push(
            "no layer can be taken from CVMFS: set disable_snapshot_annotations = false in the settings of CRI"
                .to_owned(),
        );
    }
    problems
}

/// The entry of this snapshotter, by its socket.
fn proxy_plugin<'a>(config: &'a Table, socket: &Path) -> Option<(&'a String, &'a Value)> {
    let socket = socket.to_string_lossy();
    let plugins = config.get("proxy_plugins").and_then(Value::as_table)?;
    plugins.iter().find(|(_, plugin)| {
        let has = |key, expected: &str| plugin.get(key).and_then(Value::as_str) == Some(expected);
        has("type", "snapshot") && has("address", &socket)
    })
}

/// CRI's settings of images and runtimes, from wherever the version of the file has them.
fn cri(config: &Table) -> Option<Value> {
    let plugins = config.get("plugins")?;
    let Some(images) = plugins.get(CRI_IMAGES) else { return plugins.get(CRI_V2)?.get("containerd").cloned() };
    let mut images = images.as_table()?.clone();
    let runtime = plugins.get(CRI_RUNTIME).and_then(|runtime| runtime.get("containerd"));
    if let Some(runtimes) = runtime.and_then(|runtime| runtime.get("runtimes")) {
        images.insert("runtimes".to_owned(), runtimes.clone());
    }
    Some(Value::Table(images))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: &str = "/run/x.sock";

    fn found(text: &str) -> Vec<String> {
        problems(text, Path::new(SOCKET))
    }

    #[test]
    fn the_printed_lines_pass_the_check_and_each_is_needed() {
        for major in [1, 2] {
            let snippet = snippet(major, Path::new(SOCKET));
            assert_eq!(found(&snippet), Vec::<String>::new(), "{snippet}");
            for (line, problem) in [
                ("snapshotter =", "pods do not use it"),
                ("disable_snapshot_annotations", "no layer can be taken"),
                ("address", "config containerd"),
            ] {
                let kept: Vec<&str> = snippet.lines().filter(|kept| !kept.starts_with(line)).collect();
                let found = found(&kept.join("\n"));
                assert!(found.len() == 1 && found[0].contains(problem), "{major} without {line}: {found:?}");
            }
        }
    }

    #[test]
    fn a_runtime_can_have_its_own_snapshotter() {
        let plugin = "[proxy_plugins.mine]\ntype = \"snapshot\"\naddress = \"/run/x.sock\"\n";
        let version_2 = "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndisable_snapshot_annotations = false\n\
                         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.lazy]\nsnapshotter = \"mine\"\n";
        let version_3 = "[plugins.\"io.containerd.cri.v1.images\"]\ndisable_snapshot_annotations = false\n\
                         [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.lazy]\nsnapshotter = \"mine\"\n";
        for cri in [version_2, version_3] {
            assert_eq!(found(&format!("{plugin}{cri}")), Vec::<String>::new(), "{cri}");
        }
    }

    #[test]
    fn each_problem_is_reported_with_what_to_do() {
        let plugin = "[proxy_plugins.mine]\ntype = \"snapshot\"\naddress = \"/run/x.sock\"\n";
        let remapping = format!("{plugin}capabilities = [\"remap-ids\"]\n");
        for (text, problem) in [
            (remapping.as_str(), "remap-ids"),
            ("= x", "cannot parse"),
            (plugin, "CRI has no snapshotter"),
            ("", "no entry of proxy_plugins"),
        ] {
            assert!(found(text).iter().any(|found| found.contains(problem)), "{text}: {:?}", found(text));
        }
    }
}
