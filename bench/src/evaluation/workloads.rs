//! The workloads: an image, its command, and the sign that it is ready.

use std::path::Path;

use anyhow::Result;
use testbed::images::{self, Image};

/// A workload. Each has its own image (a chain of layers that no other has) and so its own bundle.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) image: fn(&Path) -> Result<Image>,
    /// Program and arguments; `{port}` is replaced by a free port.
    command: &'static [&'static str],
    pub(super) ready: Ready,
}

/// The sign that a container is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// The first line on its standard output.
    Output,
    /// A response on its port, after which it exits.
    Port,
}

impl Workload {
    /// The command with `port` filled in.
    pub(super) fn command(&self, port: u16) -> Vec<String> {
        self.command.iter().map(|word| word.replace("{port}", &port.to_string())).collect()
    }

    /// The workload called `name`.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|workload| workload.name == name)
    }

    /// Whether it is one of the Python images, which have a target of their own.
    pub(super) fn is_python(&self) -> bool {
        ["python", "python-imports", "science"].contains(&self.name)
    }
}

const C: &str = r#"cat >/tmp/a.c <<'END'
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) { printf("%f\n", sqrt(atof("2"))); return 0; }
END
gcc -O2 -o /tmp/a /tmp/a.c -lm && /tmp/a"#;

const CXX: &str = r#"cat >/tmp/a.cc <<'END'
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>
int main() {
    std::map<std::string, std::vector<int>> numbers{{"some", {3, 1, 2}}};
    auto copy = std::make_shared<std::vector<int>>(numbers.at("some"));
    std::sort(copy->begin(), copy->end());
    for (int number : *copy) std::cout << number << std::endl;
}
END
g++ -O2 -o /tmp/a /tmp/a.cc && /tmp/a"#;

pub(super) const ALL: [Workload; 9] = [
    Workload { name: "base", image: images::plain, command: &["/bin/echo", "ready"], ready: Ready::Output },
    Workload {
        name: "python",
        image: images::python_alone,
        command: &["python3", "-c", "print('ready')"],
        ready: Ready::Output,
    },
    Workload {
        name: "python-imports",
        image: images::python,
        command: &["python3", "/opt/app/main.py"],
        ready: Ready::Output,
    },
    Workload { name: "gcc", image: images::gcc, command: &["/bin/sh", "-c", C], ready: Ready::Output },
    Workload { name: "gxx", image: images::gxx, command: &["/bin/sh", "-c", CXX], ready: Ready::Output },
    Workload { name: "root", image: images::root, command: &["python3", "/opt/app/root.py"], ready: Ready::Output },
    Workload {
        name: "analysis",
        image: images::analysis,
        command: &["/opt/analysis/bin/analyse"],
        ready: Ready::Output,
    },
    Workload {
        name: "science",
        image: images::science,
        command: &["python3", "/opt/app/fit.py"],
        ready: Ready::Output,
    },
    Workload {
        name: "node",
        image: images::node,
        command: &["node", "/opt/app/server.js", "{port}"],
        ready: Ready::Port,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ports_are_filled_in() {
        for workload in &ALL {
            assert_eq!(ALL.iter().filter(|other| other.name == workload.name).count(), 1, "{}", workload.name);
            let command = workload.command(8080);
            assert!(!command.concat().contains("{port}"), "{command:?}");
            let has_port = command.iter().any(|word| word == "8080");
            assert_eq!(has_port, workload.ready == Ready::Port, "{}", workload.name);
        }
        assert!(Workload::named("nothing").is_none());
    }
}
