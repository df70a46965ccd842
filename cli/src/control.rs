//! `cancel`, `priority` and `drop`: change what the daemon does or has.

use std::process::ExitCode;

use anyhow::Result;
use api::proto::Priority;

use crate::{prefetch, request, status};

#[derive(clap::Args)]
pub(crate) struct Cancel {
    /// The request
    request: u64,
    /// Print what it has come to as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: status::Daemon,
}

#[derive(clap::Args)]
pub(crate) struct SetPriority {
    /// The request
    request: u64,
    /// low, normal or high
    #[arg(value_parser = prefetch::parse_priority)]
    priority: Priority,
    #[command(flatten)]
    daemon: status::Daemon,
}

#[derive(clap::Args)]
pub(crate) struct Drop {
    /// The image: the chain ID or manifest digest `sha256:...`, or the reference for which the bundle was made
    image: String,
    #[command(flatten)]
    daemon: status::Daemon,
}

pub(crate) async fn cancel(args: Cancel) -> Result<ExitCode> {
    request::print(&args.daemon.client().cancel(args.request).await?, args.json)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn set_priority(args: SetPriority) -> Result<ExitCode> {
    let status = args.daemon.client().set_priority(args.request, args.priority).await?;
    println!("request {}: {}, priority {}", status.request_id, status.state().name(), status.priority().name());
    Ok(ExitCode::SUCCESS)
}

/// Ends with status 3 if there is none, as `prefetch` does.
pub(crate) async fn drop(args: Drop) -> Result<ExitCode> {
    let removed = args.daemon.client().remove_bundles(request::image(&args.image)).await?;
    println!("bundles dropped: {removed}");
    Ok(if removed > 0 { ExitCode::SUCCESS } else { ExitCode::from(request::NO_BUNDLE) })
}
