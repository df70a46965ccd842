//! A request of the daemon: sending names of an image, following the request, printing it, and its exit code.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use api::client::Client;
use api::proto::{Image, Priority, RequestState, RequestStatus};
use bundles::image::Digest;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_stream::StreamExt;

use crate::json::{Request, Tally};
use crate::output::Notes;
use crate::text;

/// Exit code: there is no bundle for the image.
pub(crate) const NO_BUNDLE: u8 = 3;
/// Exit code: the bundle or some objects failed.
pub(crate) const FAILED: u8 = 4;
/// Exit code: the request was cancelled or timed out.
pub(crate) const TIMED_OUT: u8 = 5;

/// How often the progress bar moves.
const REFRESH: Duration = Duration::from_millis(100);

/// An image by its name alone, without asking a registry: a digest, which may be a chain ID or a manifest digest (at most one
/// of them leads to a bundle), or a reference that a bundle was built for.
pub(crate) fn image(name: &str) -> Image {
    match name.parse::<Digest>() {
        Ok(digest) => Image { chain_id: digest.to_string(), manifest_digest: digest.to_string(), ..Image::default() },
        Err(_) => Image { reference: name.to_owned(), ..Image::default() },
    }
}

/// Parses `low`, `normal` or `high`.
pub(crate) fn parse_priority(text: &str) -> Result<Priority, String> {
    let all = [Priority::Low, Priority::Normal, Priority::High];
    all.into_iter().find(|priority| priority.name() == text).ok_or_else(|| "expected low, normal or high".into())
}

/// Follows a request until it ends or the timeout passes, with a progress bar on a terminal. Returns its last status.
pub(crate) async fn follow(client: &Client, id: u64, timeout: Duration, notes: Notes) -> Result<RequestStatus> {
    let bar = progress_bar(notes)?;
    let mut last = client.status(id).await?;
    let follow = async {
        let mut statuses = client.watch(id, REFRESH).await?;
        while let Some(status) = statuses.next().await {
            last = status?;
            show_progress(&bar, &Request::from(&last).tally);
        }
        anyhow::Ok(())
    };
    let ended = tokio::time::timeout(timeout, follow).await;
    bar.finish_and_clear();
    ended.unwrap_or(Ok(()))?;
    Ok(last)
}

fn progress_bar(notes: Notes) -> Result<ProgressBar> {
    if notes.is_quiet() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {msg}, {elapsed} (left: {eta})")?;
    Ok(ProgressBar::new(0).with_style(style))
}

/// Moves the bar by bytes, which predict the remaining time better than objects.
fn show_progress(bar: &ProgressBar, tally: &Tally) {
    bar.set_length(tally.total_raw_bytes);
    bar.set_position(tally.cached_raw_bytes.saturating_add(tally.fetched_raw_bytes));
    bar.set_message(progress(tally));
}

fn progress(tally: &Tally) -> String {
    let finished = tally.cached_objects
        + tally.fetched_objects
        + tally.joined_objects
        + tally.failed_objects
        + tally.skipped_objects;
    let seconds = tally.elapsed_us as f64 / 1e6;
    let rate = if seconds > 0.0 { tally.fetched_stored_bytes as f64 / seconds } else { 0.0 };
    format!(
        "{finished}/{} objects, {} of {}, {}/s",
        tally.total_objects,
        text::bytes(tally.fetched_stored_bytes),
        text::bytes(tally.total_stored_bytes),
        text::bytes(rate as u64)
    )
}

/// Prints a request for people.
pub(crate) fn print(out: &mut impl Write, request: &Request) -> io::Result<()> {
    let tally = &request.tally;
    writeln!(
        out,
        "request {}: {}, {} objects: {} cached, {} fetched ({} in {}), {} joined, {} failed, {} skipped{}",
        request.request_id,
        request.state,
        tally.total_objects,
        tally.cached_objects,
        tally.fetched_objects,
        text::bytes(tally.fetched_stored_bytes),
        text::microseconds(tally.elapsed_us),
        tally.joined_objects,
        tally.failed_objects,
        tally.skipped_objects,
        cache_full(tally),
    )?;
    if request.waiting_for_settings {
        writeln!(out, "  waiting: the daemon has just started and reads the settings of its repositories")?;
    }
    if !request.bundle_source.is_empty() {
        let (source, lookup) = (text::line(&request.bundle_source), text::microseconds(request.lookup_us));
        writeln!(out, "  bundle from: {source}, lookup {lookup}")?;
        writeln!(out, "  first byte: {}", after(tally.time_to_first_byte_us))?;
        writeln!(out, "  critical: {} objects, cached {}", tally.critical_objects, after(tally.time_to_critical_us))?;
    }
    let causes: Vec<_> = [
        (tally.failed_transfer, "transfer"),
        (tally.failed_verification, "verification"),
        (tally.failed_write, "write"),
        (tally.failed_shutdown, "daemon shut down"),
        (tally.failed_cancelled, "cancelled or timed out"),
        (tally.failed_abandoned, "abandoned"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, cause)| format!("{count} {cause}"))
    .collect();
    if !causes.is_empty() {
        writeln!(out, "  failed: {}", causes.join(", "))?;
    }
    if !request.error.is_empty() {
        writeln!(out, "  error: {}", text::line(&request.error))?;
    }
    Ok(())
}

/// How many of the skipped objects do not fit into the cache.
fn cache_full(tally: &Tally) -> String {
    match tally.skipped_cache_full_objects {
        0 => String::new(),
        objects => format!(" ({objects}: cache full)"),
    }
}

fn after(microseconds: u64) -> String {
    if microseconds == 0 { "-".into() } else { format!("after {}", text::microseconds(microseconds)) }
}

/// The exit code for a caller that waited for the request.
pub(crate) fn exit_code(state: RequestState) -> ExitCode {
    match state {
        RequestState::Done => ExitCode::SUCCESS,
        RequestState::NoBundle => ExitCode::from(NO_BUNDLE),
        RequestState::Failed => ExitCode::from(FAILED),
        RequestState::Cancelled | RequestState::Deadline => ExitCode::from(TIMED_OUT),
        // The timeout of the caller passed.
        RequestState::Running | RequestState::Unspecified => ExitCode::from(TIMED_OUT),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_end_has_its_exit_code() {
        for (state, code) in [
            (RequestState::Done, 0),
            (RequestState::NoBundle, 3),
            (RequestState::Failed, 4),
            (RequestState::Cancelled, 5),
            (RequestState::Deadline, 5),
            (RequestState::Running, 5),
        ] {
            assert_eq!(format!("{:?}", exit_code(state)), format!("{:?}", ExitCode::from(code)), "{state:?}");
        }
    }

    #[test]
    fn a_request_is_printed_for_people_and_as_json() {
        let tally = Tally {
            total_objects: 5,
            cached_objects: 1,
            fetched_objects: 2,
            failed_objects: 1,
            failed_cancelled: 1,
            skipped_objects: 1,
            skipped_cache_full_objects: 1,
            fetched_stored_bytes: 3_000_000,
            total_stored_bytes: 9_000_000,
            elapsed_us: 2_000_000,
            ..Tally::default()
        };
        assert_eq!(progress(&tally), "5/5 objects, 3.00 MB of 9.00 MB, 1.50 MB/s");
        let mut status = RequestStatus { request_id: 7, bundle_source: "store".into(), ..RequestStatus::default() };
        status.set_state(RequestState::Cancelled);
        status.set_priority(Priority::High);
        status.waiting_for_settings = true;
        let request = Request { tally, ..Request::from(&status) };
        let mut out = Vec::new();
        print(&mut out, &request).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "request 7: cancelled, 5 objects: 1 cached, 2 fetched (3.00 MB in 2.00 s), 0 joined, 1 failed, 1 skipped \
             (1: cache full)\n  waiting: the daemon has just started and reads the settings of its repositories\n  bundle from: store, lookup 0.0 ms\n  first byte: -\n  critical: 0 objects, cached -\n  \
             failed: 1 cancelled or timed out\n"
        );
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(json["request_id"], 7);
        assert_eq!((&json["state"], &json["priority"]), (&"cancelled".into(), &"high".into()));
        assert_eq!(json["tally"]["total_objects"], 5);
    }

    #[test]
    fn a_digest_may_be_either_id_and_all_else_is_a_reference() {
        let digest = Digest::sha256(b"x").to_string();
        let by_digest = image(&digest);
        assert_eq!((by_digest.chain_id, by_digest.manifest_digest), (digest.clone(), digest));
        assert_eq!(image("host/name:tag").reference, "host/name:tag");
    }
}
