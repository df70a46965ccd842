//! `status`: the daemon's requests and bundles.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use prefetcher::api::{Image, RequestStatus, StoredBundle};
use prefetcher::client::Client;
use serde_json::{Value, json};

use crate::text;

/// Where the daemon is.
#[derive(clap::Args)]
pub(crate) struct Daemon {
    /// Socket of cvmfs-prefetchd
    #[arg(long, env = "CVMFS_PREFETCH_SOCKET", default_value = prefetcher::config::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this request
    request: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let client = Client::connect_lazy(&args.daemon.socket);
    if let Some(id) = args.request {
        print_request(&client.status(id).await?, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let list = client.list().await?;
    if args.json {
        let requests: Vec<_> = list.requests.iter().map(request_json).collect();
        let bundles: Vec<_> = list.bundles.iter().map(bundle_json).collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "requests": requests, "bundles": bundles }))?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("requests: {}", list.requests.len());
    for request in &list.requests {
        print_request(request, false)?;
    }
    println!("bundles: {}", list.bundles.len());
    for bundle in &list.bundles {
        let image = bundle.image.clone().unwrap_or_default();
        println!(
            "  {}  {} objects, {}  {}  {}",
            image.chain_id,
            bundle.objects,
            text::bytes(bundle.stored_bytes),
            bundle.repository,
            image.reference
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// One request, for people or as JSON.
pub(crate) fn print_request(status: &RequestStatus, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&request_json(status))?);
        return Ok(());
    }
    let account = status.account.unwrap_or_default();
    println!(
        "request {}: {}, {} objects: {} were there, {} fetched ({} in {}), {} by other requests, {} failed",
        status.request_id,
        state(status),
        account.wanted_objects,
        account.already_there_objects,
        account.fetched_objects,
        text::bytes(account.fetched_stored_bytes),
        text::microseconds(account.elapsed_us),
        account.joined_objects,
        account.failed_objects
    );
    if !status.bundle_source.is_empty() {
        println!("  bundle from: {}", status.bundle_source);
    }
    if !status.error.is_empty() {
        println!("  error: {}", status.error);
    }
    Ok(())
}

fn state(status: &RequestStatus) -> String {
    status.state().as_str_name().trim_start_matches("REQUEST_STATE_").to_lowercase()
}

fn image_json(image: Option<&Image>) -> Value {
    let image = image.cloned().unwrap_or_default();
    json!({ "chain_id": image.chain_id, "manifest_digest": image.manifest_digest, "reference": image.reference })
}

fn bundle_json(bundle: &StoredBundle) -> Value {
    json!({
        "image": image_json(bundle.image.as_ref()),
        "repository": bundle.repository,
        "objects": bundle.objects,
        "stored_bytes": bundle.stored_bytes,
    })
}

fn request_json(status: &RequestStatus) -> Value {
    let account = status.account.unwrap_or_default();
    json!({
        "request_id": status.request_id,
        "image": image_json(status.image.as_ref()),
        "state": state(status),
        "error": status.error,
        "bundle_source": status.bundle_source,
        "account": {
            "wanted_objects": account.wanted_objects,
            "already_there_objects": account.already_there_objects,
            "fetched_objects": account.fetched_objects,
            "joined_objects": account.joined_objects,
            "skipped_objects": account.skipped_objects,
            "failed_objects": account.failed_objects,
            "failed_transfer": account.failed_transfer,
            "failed_verification": account.failed_verification,
            "failed_write": account.failed_write,
            "fetched_stored_bytes": account.fetched_stored_bytes,
            "fetched_raw_bytes": account.fetched_raw_bytes,
            "elapsed_us": account.elapsed_us,
        },
    })
}
