//! `prefetch`: ask the daemon for an image, and watch.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::client::Client;
use api::limits::LEAST_BYTES_PER_SECOND;
use api::limits::MAX_BUNDLE;
use api::proto::{Image, PrefetchRequest, Priority, RequestState, RequestStatus};
use bundles::image::Digest;
use bundles::registry;
use tokio_stream::StreamExt;

use crate::{request, status};

/// How often the bar moves.
const REFRESH: Duration = Duration::from_millis(100);

const EXIT_CODES: &str = "Exit codes: 0 all objects are in the cache (with --critical: the critical ones; with --no-wait: \
the request was noted), 1 the daemon or the registry could not be asked, 2 wrong usage, 3 there is no bundle for the \
image, 4 the bundle or some objects failed, 5 the request was cancelled, its deadline passed, or the time limit did";

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// The image: a reference (its registry is asked), or the chain ID or manifest digest `sha256:...`
    #[arg(required_unless_present = "bundle")]
    image: Option<String>,
    /// Talk to the registry without TLS
    #[arg(long)]
    plain_http: bool,
    /// Do not ask the registry: the daemon's store has a bundle that was made for this very reference
    #[arg(long, conflicts_with = "plain_http")]
    no_registry: bool,
    /// Use this bundle, instead of the one that the daemon finds
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// What the image is to be run for: bring only its bundle's common part and this profile's
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    profile: String,
    /// Whose objects are fetched first: low, normal or high
    #[arg(long, default_value = "normal", value_parser = parse_priority)]
    priority: Priority,
    /// End the request after so long with what it has then, e.g. 90s; also if nobody waits
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// Let the request take so many bytes a second at most, within the node's limit
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(LEAST_BYTES_PER_SECOND..))]
    bytes_per_second: Option<u64>,
    /// Return at once instead of waiting for the end
    #[arg(long)]
    no_wait: bool,
    /// Return when the critical objects are in, which a start needs
    #[arg(long, conflicts_with = "no_wait")]
    critical: bool,
    /// Wait so long at most, e.g. 90s or 5m; the request goes on
    #[arg(long, visible_alias = "timeout", value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// Print the tally as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: status::Daemon,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let client = args.daemon.client();
    let id = client.submit(args.call().await?).await?;
    if args.no_wait {
        println!("request {id}");
        return Ok(ExitCode::SUCCESS);
    }
    if args.critical {
        return wait_critical(&client, id, args.time_limit, args.json).await;
    }
    let last = watch(&client, id, args.time_limit).await?;
    request::print(&last, args.json)?;
    Ok(request::exit_code(last.state()))
}

impl Args {
    async fn call(&self) -> Result<PrefetchRequest> {
        let bundle = match &self.bundle {
            None => Vec::new(),
            Some(path) => {
                let size = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
                ensure!(size <= MAX_BUNDLE as u64, "{}: more than {MAX_BUNDLE} bytes", path.display());
                std::fs::read(path).with_context(|| path.display().to_string())?
            }
        };
        let image = match &self.image {
            None => Image::default(),
            Some(image) if self.no_registry || self.bundle.is_some() => request::image(image),
            Some(image) => name(image, self.plain_http).await?,
        };
        Ok(PrefetchRequest {
            image: Some(Image { profile: self.profile.clone(), ..image }),
            priority: self.priority.into(),
            // 0 would be none.
            deadline_ms: self.deadline.map_or(0, |deadline| (deadline.as_millis() as u64).max(1)),
            bundle,
            bytes_per_second: self.bytes_per_second.unwrap_or(0),
            correlation_id: format!("cvmfs-prefetch, process {}", std::process::id()),
        })
    }
}

/// Low, normal or high.
pub(crate) fn parse_priority(text: &str) -> Result<Priority, String> {
    let all = [Priority::Low, Priority::Normal, Priority::High];
    all.into_iter().find(|p| p.name() == text).ok_or_else(|| "it is low, normal or high".into())
}

/// Shows a request until it ends, so long at most; its last status.
pub(crate) async fn watch(client: &Client, id: u64, time_limit: Duration) -> Result<RequestStatus> {
    let bar = request::bar()?;
    let mut last = client.status(id).await?;
    let follow = async {
        let mut statuses = client.watch(id, REFRESH).await?;
        while let Some(status) = statuses.next().await {
            last = status?;
            request::show(&bar, &last);
        }
        anyhow::Ok(())
    };
    // When the time is up, the last status says how far it has come.
    let ended = tokio::time::timeout(time_limit, follow).await;
    bar.finish_and_clear();
    ended.unwrap_or(Ok(()))?;
    Ok(last)
}

async fn wait_critical(client: &Client, id: u64, time_limit: Duration, json: bool) -> Result<ExitCode> {
    let started = Instant::now();
    let reply = client.wait_critical(id, time_limit).await?;
    let status = reply.status.unwrap_or_default();
    request::print(&status, json)?;
    Ok(match status.state() {
        _ if reply.critical => ExitCode::SUCCESS,
        // One of them has failed.
        RequestState::Running if started.elapsed() < time_limit => ExitCode::from(request::FAILED),
        state => request::exit_code(state),
    })
}

/// All the names under which the daemon may know the image.
async fn name(image: &str, plain_http: bool) -> Result<Image> {
    if image.parse::<Digest>().is_ok() {
        return Ok(request::image(image));
    }
    let id = registry::describe(image, plain_http).await?.id;
    Ok(Image {
        chain_id: id.chain_id.to_string(),
        manifest_digest: id.manifest.map(|d| d.to_string()).unwrap_or_default(),
        reference: id.reference,
        ..Image::default()
    })
}
