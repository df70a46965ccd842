//! No crate may have a circle of modules: such modules can be read, tested and moved only together.
//!
//! The test reads the sources, follows `use` items and inline paths to the module that defines what they name (through
//! re-exports), and compares modules that have the same parent. A module and its own submodules may use each other.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The crates that must have no circle, by their source directories in the workspace.
const CRATES: [&str; 9] = [
    "bundles/src",
    "api/src",
    "node/src",
    "tracer-ebpf/src",
    "prefetcher/src",
    "snapshotter/src",
    "cli/src",
    "testbed/src",
    "bench/src",
];

/// The path of a module below the root of its crate.
type Module = Vec<String>;

/// A crate, as far as its modules matter.
#[derive(Default)]
struct Sources {
    modules: BTreeMap<Module, String>,
    /// What a module re-exports or imports: name, and the path it stands for.
    imports: BTreeMap<(Module, String), (Module, Vec<String>)>,
}

/// For each parent: the arrows between its submodules, each with an example.
type Arrows = BTreeMap<Module, BTreeMap<String, BTreeMap<String, String>>>;

impl Sources {
    fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        sources.add(root, &Vec::new());
        sources
    }

    fn add(&mut self, directory: &Path, module: &Module) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if name == "tests" || name == "as_root" || name.ends_with("_tests") {
                continue;
            }
            let inner = [module.as_slice(), std::slice::from_ref(&name)].concat();
            if path.is_dir() {
                self.add(&path, &inner);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_root = matches!(name.as_str(), "mod" | "lib" | "main");
                let module = if is_root { module.clone() } else { inner };
                let code = code_of(&std::fs::read_to_string(&path).unwrap());
                self.modules.entry(module).or_default().push_str(&code);
            }
        }
    }

    /// All arrows between modules that have the same parent.
    fn arrows(mut self) -> Arrows {
        let mut paths: Vec<(Module, Vec<String>)> = Vec::new();
        for (module, code) in self.modules.clone() {
            let (imported, rest) = split_uses(&code);
            for (path, name) in imported {
                self.imports.insert((module.clone(), name), (module.clone(), path.clone()));
                paths.push((module.clone(), path));
            }
            paths.extend(inline_paths(&rest).into_iter().map(|path| (module.clone(), path)));
        }
        let mut arrows = Arrows::new();
        for (from, path) in paths {
            let Some(to) = self.resolve(&from, &path, 0) else { continue };
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                let example = format!("{} uses {}", from.join("::"), path.join("::"));
                let of_parent = arrows.entry(from[..common].to_vec()).or_default();
                of_parent.entry(a.clone()).or_default().entry(b.clone()).or_insert(example);
            }
        }
        arrows
    }

    /// The module that defines what `path` names in `module`; `None` outside this crate.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut rest = path.iter();
        let mut at = match rest.next()?.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            first => {
                let child = [module.as_slice(), &[first.to_owned()]].concat();
                if !self.modules.contains_key(&child) {
                    return None;
                }
                child
            }
        };
        for name in rest {
            if name == "super" {
                at.pop()?;
                continue;
            }
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                at = child;
            } else if let Some((importer, target)) = self.imports.get(&(at.clone(), name.clone())).filter(|_| depth < 8)
            {
                return self.resolve(importer, target, depth + 1).or(Some(at));
            } else {
                break;
            }
        }
        Some(at)
    }
}

/// A file without comments and without its unit tests.
fn code_of(file: &str) -> String {
    let tests = ["tests", "as_root"].map(|name| format!("#[cfg(test)]\nmod {name} {{"));
    let product = tests.iter().fold(file, |code, begin| code.split(begin.as_str()).next().unwrap());
    let lines = product.lines().map(|line| line.split("//").next().unwrap());
    lines.map(|line| format!("{line}\n")).collect()
}

/// The imports of a file, as path and name, and the rest of its code.
fn split_uses(code: &str) -> (Vec<(Vec<String>, String)>, String) {
    let (mut imports, mut rest, mut in_use) = (Vec::new(), String::new(), None::<String>);
    for line in code.lines() {
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter().find_map(|begin| {
            let line = line.trim_start();
            line.strip_prefix(begin)
        });
        match (in_use.as_mut(), begins) {
            (Some(tree), _) => tree.push_str(line),
            (None, Some(tree)) => in_use = Some(tree.to_owned()),
            (None, None) => rest.push_str(&format!("{line}\n")),
        }
        if let Some(tree) = in_use.take_if(|tree| tree.contains(';')) {
            expand(&[], tree.trim().trim_end_matches(';'), &mut imports);
        }
    }
    (imports, rest)
}

/// Expands `a::{b, c::d as e}` into its paths, each with the name it has in the importing module.
fn expand(prefix: &[String], tree: &str, imports: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{').and_then(|list| list.strip_suffix('}')) {
        let (mut depth, mut begin) = (0, 0);
        for (at, character) in list.char_indices().chain([(list.len(), ',')]) {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !list[begin..at].trim().is_empty() {
                        expand(prefix, &list[begin..at], imports);
                    }
                    begin = at + 1;
                }
                _ => {}
            }
        }
    } else if let Some((first, rest)) = tree.split_once("::").filter(|(first, _)| !first.contains('{')) {
        expand(&[prefix, &[first.trim().to_owned()]].concat(), rest, imports);
    } else {
        let (item, name) = tree.split_once(" as ").unwrap_or((tree, tree));
        let path = if item == "self" { prefix.to_vec() } else { [prefix, &[item.trim().to_owned()]].concat() };
        let name =
            if item == "self" && name == "self" { path.last().cloned().unwrap_or_default() } else { name.to_owned() };
        imports.push((path, name));
    }
}

/// Paths in code that begin with `crate`, `self` or `super`.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c: char| !is_path(c));
    let paths = words.filter(|word| ["crate::", "super::", "self::"].iter().any(|begin| word.starts_with(begin)));
    paths.map(|path| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()).collect()
}

/// A circle in `arrows`, if there is one: module names, the first one again at the end.
fn circle(arrows: &BTreeMap<String, BTreeMap<String, String>>) -> Option<Vec<String>> {
    fn walk(
        at: &str,
        arrows: &BTreeMap<String, BTreeMap<String, String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|module| module == at) {
            return Some([&way[begin..], &[at.to_owned()]].concat());
        }
        if !done.insert(at.to_owned()) {
            return None;
        }
        way.push(at.to_owned());
        let found = arrows.get(at).into_iter().flat_map(BTreeMap::keys).find_map(|next| walk(next, arrows, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|module| walk(module, arrows, &mut Vec::new(), &mut done))
}

/// All circles of a crate, in words.
fn circles(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (parent, arrows) in Sources::read(root).arrows() {
        let Some(circle) = circle(&arrows) else { continue };
        let examples: Vec<&str> = circle.windows(2).map(|arrow| arrows[&arrow[0]][&arrow[1]].as_str()).collect();
        found.push(format!("below `{}`: {}", parent.join("::"), examples.join("; ")));
    }
    found
}

#[test]
fn crates_have_no_circles_of_modules() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found: Vec<String> = CRATES
        .iter()
        .flat_map(|sources| {
            circles(&workspace.join(sources)).into_iter().map(move |circle| format!("{sources}: {circle}"))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn circles_are_found_through_reexports_and_inline_paths() {
    let write = |files: &[(&str, &str)]| {
        let root = tempfile::tempdir().unwrap();
        for (name, code) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, code).unwrap();
        }
        circles(root.path())
    };
    let lib = ("lib.rs", "mod a;\nmod b;\n");
    // An arrow in one direction, one in a comment, one in a test, and those between a module and its submodule.
    let fine = [
        lib,
        ("a/mod.rs", "mod inner;\npub use inner::Inner;\nuse crate::b::{B, self};\n"),
        ("a/inner.rs", "use super::A;\n"),
        ("b.rs", "// crate::a::A\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
    ];
    assert_eq!(write(&fine), [""; 0]);
    for back in ["use crate::a::Inner;", "fn f(_: &crate::a::A) {}", "use super::{\n    a::A,\n};"] {
        let mut files = fine;
        files[3] = ("b.rs", back);
        let found = write(&files);
        assert!(found.len() == 1 && found[0].contains("a uses crate::b"), "{back}: {found:?}");
    }
    // Submodules of one module: one uses the other by its re-exported name.
    let siblings = [
        ("lib.rs", "mod m;\n"),
        ("m/mod.rs", "mod x;\nmod y;\npub use y::Y;\n"),
        ("m/x.rs", "use super::Y;\n"),
        ("m/y.rs", "use super::x::X;\n"),
    ];
    assert_eq!(write(&siblings).len(), 1);
}
