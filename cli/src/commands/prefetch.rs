//! `prefetch`: send the daemon a request for an image, and wait for it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::client::Client;
use api::limits::LEAST_BYTES_PER_SECOND;
use api::limits::MAX_BUNDLE;
use api::proto::{Image, PrefetchRequest, Priority, RequestState};
use bundles::image::Digest;

use crate::daemon_args::DaemonArgs;
use crate::json::{Request, RequestId};
use crate::output::Output;
use crate::registry_args::RegistryArgs;
use crate::request::{self, parse_priority};

const EXAMPLES: &str = "\
Examples:
  Prefetch an image and wait for all objects:
    cvmfs-prefetch prefetch registry.example.org/physics/root:6.32

  Prefetch one of its profiles, and wait at most 30 s for what a start needs:
    cvmfs-prefetch prefetch registry.example.org/physics/root:6.32 --profile fit --critical --timeout 30s

  Prefetch from a bundle file, in the background:
    cvmfs-prefetch prefetch --bundle root.bundle --priority low --no-wait

Exit codes:
  0  all objects are cached; with --critical, the critical objects; with --no-wait, the request was sent
  1  the daemon or the registry does not answer
  2  wrong usage
  3  there is no bundle for the image
  4  the bundle or some objects failed
  5  the request was cancelled, its deadline passed, or --timeout passed
";

/// Have the prefetch daemon fetch the objects of an image into the CVMFS cache
///
/// Sends a request to cvmfs-prefetchd, shows its progress on a terminal, and waits until it has ended.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Prefetch {
    /// Image: a reference, which is looked up in its registry, or a chain ID or manifest digest (sha256:...)
    #[arg(required_unless_present = "bundle")]
    image: Option<String>,
    /// Bundle file to use instead of the one that the daemon finds
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Do not ask the registry: the daemon's store has a bundle that was built for this reference
    #[arg(long, conflicts_with = "plain_http")]
    no_registry: bool,
    /// Profile to prefetch, beside the common section of the bundle [default: all profiles]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    profile: String,
    /// Print the request as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Request")]
struct Limits {
    /// Request priority: low, normal or high
    #[arg(long, default_value = "normal", value_parser = parse_priority)]
    priority: Priority,
    /// Time budget of the request, e.g. 90s; it ends then with the objects fetched so far, also if nobody waits
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// Rate limit of the request, within the limit of the daemon
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(LEAST_BYTES_PER_SECOND..))]
    bytes_per_second: Option<u64>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Waiting")]
struct Wait {
    /// Return at once instead of waiting for the end
    #[arg(long)]
    no_wait: bool,
    /// Return when the critical objects are cached, which a start needs before its main phase
    #[arg(long, conflicts_with = "no_wait")]
    critical: bool,
    /// Maximum time to wait, e.g. 90s or 5m; the request goes on
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Prefetch {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let client = self.daemon.client();
        let request_id = client.submit(self.request().await?).await?;
        if self.wait.no_wait {
            out.report(self.json, &RequestId { request_id }, |out, request| {
                writeln!(out, "request {}", request.request_id)
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.wait.critical {
            return self.wait_critical(out, &client, request_id).await;
        }
        let status = request::follow(&client, request_id, self.wait.timeout, out.notes()).await?;
        out.report(self.json, &Request::from(&status), request::print)?;
        Ok(request::exit_code(status.state()))
    }

    async fn wait_critical(&self, out: &mut Output, client: &Client, request_id: u64) -> Result<ExitCode> {
        let started = Instant::now();
        let reply = client.wait_critical(request_id, self.wait.timeout).await?;
        let status = reply.status.unwrap_or_default();
        out.report(self.json, &Request::from(&status), request::print)?;
        Ok(match status.state() {
            _ if reply.critical => ExitCode::SUCCESS,
            // The daemon answers before the timeout if a critical object has failed.
            RequestState::Running if started.elapsed() < self.wait.timeout => ExitCode::from(request::FAILED),
            state => request::exit_code(state),
        })
    }

    async fn request(&self) -> Result<PrefetchRequest> {
        let image = match &self.image {
            None => Image::default(),
            Some(image) if self.no_registry || self.bundle.is_some() => request::image(image),
            Some(image) => self.look_up(image).await?,
        };
        Ok(PrefetchRequest {
            image: Some(Image { profile: self.profile.clone(), ..image }),
            priority: self.limits.priority.into(),
            // The API takes 0 for "no deadline".
            deadline_ms: self.limits.deadline.map_or(0, |deadline| (deadline.as_millis() as u64).max(1)),
            bundle: self.bundle.as_deref().map_or(Ok(Vec::new()), read_bundle)?,
            bytes_per_second: self.limits.bytes_per_second.unwrap_or(0),
            correlation_id: format!("cvmfs-prefetch, process {}", std::process::id()),
        })
    }

    /// All names under which the daemon may know the image.
    async fn look_up(&self, image: &str) -> Result<Image> {
        if image.parse::<Digest>().is_ok() {
            return Ok(request::image(image));
        }
        let id = self.registry.describe(image).await?.id;
        Ok(Image {
            chain_id: id.chain_id.to_string(),
            manifest_digest: id.manifest.map(|digest| digest.to_string()).unwrap_or_default(),
            reference: id.reference,
            ..Image::default()
        })
    }
}

/// The bytes of a bundle file, which the daemon decodes.
fn read_bundle(path: &Path) -> Result<Vec<u8>> {
    let failed = || format!("cannot read the bundle {}", path.display());
    let size = std::fs::metadata(path).with_context(failed)?.len();
    ensure!(
        size <= MAX_BUNDLE as u64,
        "the bundle {} is too large: the daemon takes {MAX_BUNDLE} bytes",
        path.display()
    );
    std::fs::read(path).with_context(failed)
}
