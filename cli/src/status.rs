//! `status`: the daemon's requests and bundles.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use api::client::Client;
use api::proto::ListReply;

use crate::{output, prefetch, request, text};

/// Where the daemon is.
#[derive(clap::Args)]
pub(crate) struct Daemon {
    /// Socket of cvmfs-prefetchd
    #[arg(long, env = "CVMFS_PREFETCHD_SOCKET", default_value = node::paths::PREFETCHD_SOCKET)]
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn client(&self) -> Client {
        Client::connect_lazy(&self.socket)
    }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this request
    request: Option<u64>,
    /// Show the request's progress until it ends; the exit code is then as of `prefetch`
    #[arg(long, requires = "request")]
    watch: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let client = args.daemon.client();
    match args.request {
        Some(id) if args.watch => {
            let last = prefetch::watch(&client, id, Duration::MAX).await?;
            request::print(&last, args.json)?;
            Ok(request::exit_code(last.state()))
        }
        Some(id) => {
            request::print(&client.status(id).await?, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let list = client.list().await?;
            if args.json {
                return output::print(|out| output::json(out, &list));
            }
            print(&list)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print(list: &ListReply) -> Result<()> {
    println!("requests: {}", list.requests.len());
    for status in &list.requests {
        request::print(status, false)?;
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
            text::line(&image.reference)
        );
    }
    if list.damaged_bundles > 0 {
        println!("damaged bundles found and removed: {}", list.damaged_bundles);
    }
    Ok(())
}
