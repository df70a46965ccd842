//! A readiness probe: a command in the container that succeeds once the service does its work, as a kubelet's `exec` probe.
//!
//! What the probe itself uses is recorded: a kubelet's probe would use it too.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Container;

/// A kubelet's default `timeoutSeconds`.
const LIMIT: Duration = Duration::from_secs(1);
/// A kubelet's shortest `periodSeconds`. The conditions are looked at more often.
const PERIOD: Duration = Duration::from_secs(1);

/// The command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe(Vec<String>);

/// A probe that is repeated.
pub(super) struct Ready<'a> {
    probe: &'a Probe,
    last: Option<Duration>,
}

impl<'a> Ready<'a> {
    pub(super) fn new(probe: &'a Probe) -> Self {
        Self { probe, last: None }
    }

    /// Whether the command succeeds, if it is due at the time `at`.
    pub(super) async fn look(&mut self, container: &mut Container, at: Duration) -> bool {
        if self.last.is_some_and(|last| at.saturating_sub(last) < PERIOD) {
            return false;
        }
        self.last = Some(at);
        match container.runtime.exec(&container.container.id, &self.probe.0, LIMIT).await {
            Ok(code) => code == 0,
            Err(error) => {
                tracing::debug!(%error, "a probe failed");
                false
            }
        }
    }
}

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let command: Vec<_> = text.split_whitespace().map(String::from).collect();
        if command.is_empty() { Err("expected a command".into()) } else { Ok(Self(command)) }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}
