//! What is run: an image, a command in it, and how one sees that it is ready.

use std::path::Path;

use anyhow::Result;
use testbed::images::{self, Image};

/// One of them. Each has an image of its own (a chain of layers that no other has), and so a bundle of its own.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) image: fn(&Path) -> Result<Image>,
    /// Program and arguments; `{port}` stands for a port that is free.
    command: &'static [&'static str],
    pub(super) ready: Ready,
}

/// When a container is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// At the first line of its standard output.
    Output,
    /// When a request to its port is answered, after which it ends.
    Port,
}

impl Workload {
    /// The command with a port.
    pub(super) fn command(&self, port: u16) -> Vec<String> {
        self.command.iter().map(|word| word.replace("{port}", &port.to_string())).collect()
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|workload| workload.name == name)
    }

    /// Whether its image is one of Python's.
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
            let asks = command.iter().any(|word| word == "8080");
            assert_eq!(asks, workload.ready == Ready::Port, "{}", workload.name);
        }
        assert!(Workload::named("nothing").is_none());
    }
}
