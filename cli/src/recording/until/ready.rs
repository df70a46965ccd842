//! `--until-ready`: a command in the container that succeeds once the service is ready, as a kubelet's `exec` probe.
//!
//! The files that the probe uses are recorded: the kubelet's probe uses them, too.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Container;

/// A kubelet's default `timeoutSeconds`.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A kubelet's shortest `periodSeconds`. The conditions are checked more often.
const PERIOD: Duration = Duration::from_secs(1);

/// The command of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe(Vec<String>);

/// A probe that runs once per period.
pub(super) struct Ready<'a> {
    probe: &'a Probe,
    last: Option<Duration>,
}

impl<'a> Ready<'a> {
    pub(super) fn new(probe: &'a Probe) -> Self {
        Self { probe, last: None }
    }

    /// Whether the command succeeds. Does not run it if the last run is less than a period before `at`.
    pub(super) async fn check(&mut self, container: &mut Container, at: Duration) -> bool {
        if self.last.is_some_and(|last| at.saturating_sub(last) < PERIOD) {
            return false;
        }
        self.last = Some(at);
        match container.runtime.exec(&container.container.id, &self.probe.0, TIMEOUT).await {
            Ok(code) => code == 0,
            Err(error) => {
                tracing::debug!(%error, "readiness probe failed");
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
