//! `prefetch`: ask the daemon for an image, and watch.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use bundles::image::{Digest, registry};
use indicatif::{ProgressBar, ProgressStyle};
use prefetcher::api::{Image, RequestState, RequestStatus};
use prefetcher::client::Client;

use crate::{status, text};

/// How often the bar moves.
const REFRESH: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image: a reference (its registry is asked), or the chain ID or manifest digest `sha256:...`
    image: String,
    /// Talk to the registry without TLS
    #[arg(long)]
    plain_http: bool,
    /// What the image is to be run for: bring only its bundle's common part and this profile's
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    profile: String,
    /// Return at once instead of waiting for the end
    #[arg(long)]
    no_wait: bool,
    /// Wait so long at most, e.g. 90s or 5m
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// Print the account as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: status::Daemon,
}

/// Exit codes: 0 all objects are in the cache (or the request was noted, with `--no-wait`), 1 it failed or could not
/// be asked for, 3 there is no bundle for the image, 4 the time limit passed.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let client = Client::connect_lazy(&args.daemon.socket);
    let image = Image { profile: args.profile, ..name(&args.image, args.plain_http).await? };
    let id = client.prefetch(image).await?;
    if args.no_wait {
        println!("request {id}");
        return Ok(ExitCode::SUCCESS);
    }
    let end = Instant::now() + args.time_limit;
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} objects, {msg}, {elapsed} (left: {eta})")?);
    let last = loop {
        let now = client.status(id).await?;
        show(&bar, &now);
        if now.state() != RequestState::Running || Instant::now() > end {
            break now;
        }
        tokio::time::sleep(REFRESH).await;
    };
    bar.finish_and_clear();
    status::print_request(&last, args.json)?;
    Ok(match last.state() {
        RequestState::Done => ExitCode::SUCCESS,
        RequestState::NoBundle => ExitCode::from(3),
        RequestState::Running => ExitCode::from(4),
        _ => ExitCode::FAILURE,
    })
}

/// All the names under which the daemon may know the image.
async fn name(image: &str, plain_http: bool) -> Result<Image> {
    if let Ok(digest) = image.parse::<Digest>() {
        // A person does not say which of the two it is; at most one of them leads to a bundle.
        return Ok(Image { chain_id: digest.to_string(), manifest_digest: digest.to_string(), ..Image::default() });
    }
    let id = registry::describe(image, plain_http).await?.id;
    Ok(Image {
        chain_id: id.chain_id.to_string(),
        manifest_digest: id.manifest.map(|d| d.to_string()).unwrap_or_default(),
        reference: id.reference,
        ..Image::default()
    })
}

fn show(bar: &ProgressBar, status: &RequestStatus) {
    let account = status.account.unwrap_or_default();
    bar.set_length(account.wanted_objects);
    bar.set_position(
        account.already_there_objects
            + account.fetched_objects
            + account.joined_objects
            + account.failed_objects
            + account.skipped_objects,
    );
    bar.set_message(text::bytes(account.fetched_stored_bytes));
}
