//! What has become of a request of the daemon: for people, for programs, and as an exit code.

use std::process::ExitCode;

use anyhow::Result;
use api::proto::{Image, RequestState, RequestStatus, Tally};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::text;

/// Not brought at all: there is no bundle for the image.
pub(crate) const NO_BUNDLE: u8 = 3;
/// A part failed.
pub(crate) const FAILED: u8 = 4;
/// Not brought in time, or cancelled.
pub(crate) const GIVEN_UP: u8 = 5;

/// Prints a request, for people or as JSON.
pub(crate) fn print(status: &RequestStatus, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&value(status)?)?);
        return Ok(());
    }
    let tally = status.tally.unwrap_or_default();
    println!(
        "request {}: {}, {} objects: {} were there, {} fetched ({} in {}), {} by other requests, {} failed, {} skipped{}",
        status.request_id,
        status.state().name(),
        tally.total_objects,
        tally.cached_objects,
        tally.fetched_objects,
        text::bytes(tally.fetched_stored_bytes),
        text::microseconds(tally.elapsed_us),
        tally.joined_objects,
        tally.failed_objects,
        tally.skipped_objects,
        no_room(&tally),
    );
    if !status.bundle_source.is_empty() {
        println!("  bundle from: {}, found in {}", status.bundle_source, text::microseconds(status.lookup_us));
        println!("  first byte: {}", moment(tally.time_to_first_byte_us));
        println!("  critical: {} objects, in the cache: {}", tally.critical_objects, moment(tally.time_to_critical_us));
    }
    let causes: Vec<_> = causes(&tally).filter(|(count, _)| *count > 0).map(|(n, why)| format!("{n} {why}")).collect();
    if !causes.is_empty() {
        println!("  failed: {}", causes.join(", "));
    }
    if !status.error.is_empty() {
        println!("  error: {}", text::line(&status.error));
    }
    Ok(())
}

/// Which of the skipped objects the cache has no room for.
fn no_room(tally: &Tally) -> String {
    match tally.skipped_cache_full_objects {
        0 => String::new(),
        objects => format!(" ({objects} of them for want of room in the cache)"),
    }
}

fn moment(microseconds: u64) -> String {
    match microseconds {
        0 => "not yet, or never".into(),
        _ => format!("after {}", text::microseconds(microseconds)),
    }
}

fn causes(tally: &Tally) -> impl Iterator<Item = (u64, &'static str)> {
    [
        (tally.failed_transfer, "in transfer"),
        (tally.failed_verification, "in verification"),
        (tally.failed_write, "in writing"),
        (tally.failed_shutdown, "as the daemon stopped"),
        (tally.failed_cancelled, "as the request was given up"),
    ]
    .into_iter()
}

/// The same as a value of JSON.
pub(crate) fn value(status: &RequestStatus) -> Result<Value> {
    Ok(serde_json::to_value(status)?)
}

/// What the state means for whoever waited.
pub(crate) fn exit_code(state: RequestState) -> ExitCode {
    match state {
        RequestState::Done => ExitCode::SUCCESS,
        RequestState::NoBundle => ExitCode::from(NO_BUNDLE),
        RequestState::Failed => ExitCode::from(FAILED),
        RequestState::Cancelled | RequestState::Deadline => ExitCode::from(GIVEN_UP),
        // Nobody waits any longer.
        RequestState::Running | RequestState::Unspecified => ExitCode::from(GIVEN_UP),
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn bar() -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{wide_bar} {msg}, {elapsed} (left: {eta})")?;
    Ok(ProgressBar::new(0).with_style(style))
}

/// Moves the bar by bytes, which tell the time that is left better than objects.
pub(crate) fn show(bar: &ProgressBar, status: &RequestStatus) {
    let tally = status.tally.unwrap_or_default();
    bar.set_length(tally.total_raw_bytes);
    bar.set_position(tally.cached_raw_bytes.saturating_add(tally.fetched_raw_bytes));
    bar.set_message(progress(&tally));
}

fn progress(tally: &Tally) -> String {
    let told = tally.cached_objects
        + tally.fetched_objects
        + tally.joined_objects
        + tally.failed_objects
        + tally.skipped_objects;
    let seconds = tally.elapsed_us as f64 / 1e6;
    let rate = if seconds > 0.0 { tally.fetched_stored_bytes as f64 / seconds } else { 0.0 };
    format!(
        "{told}/{} objects, {} of {}, {}/s",
        tally.total_objects,
        text::bytes(tally.fetched_stored_bytes),
        text::bytes(tally.total_stored_bytes),
        text::bytes(rate as u64)
    )
}

/// An image by the names that need no registry: a digest, of which nobody says whether it is a chain ID or a manifest's
/// (at most one leads to a bundle), or a reference as it was given when the bundle was built.
pub(crate) fn image(name: &str) -> Image {
    match name.parse::<bundles::image::Digest>() {
        Ok(digest) => Image { chain_id: digest.to_string(), manifest_digest: digest.to_string(), ..Image::default() },
        Err(_) => Image { reference: name.to_owned(), ..Image::default() },
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
        ] {
            assert_eq!(format!("{:?}", exit_code(state)), format!("{:?}", ExitCode::from(code)), "{state:?}");
        }
    }

    #[test]
    fn programs_get_the_whole_account_and_people_the_progress() {
        let tally = Tally {
            total_objects: 5,
            cached_objects: 1,
            fetched_objects: 2,
            failed_cancelled: 1,
            fetched_stored_bytes: 3_000_000,
            total_stored_bytes: 9_000_000,
            elapsed_us: 2_000_000,
            ..Tally::default()
        };
        assert_eq!(no_room(&tally), "");
        assert_eq!(
            no_room(&Tally { skipped_cache_full_objects: 4, ..tally }),
            " (4 of them for want of room in the cache)"
        );
        assert_eq!(progress(&tally), "3/5 objects, 3.0 MB of 9.0 MB, 1.5 MB/s");
        let mut status = RequestStatus { request_id: 7, tally: Some(tally), ..RequestStatus::default() };
        status.set_state(RequestState::NoBundle);
        status.set_priority(api::proto::Priority::High);
        let value = value(&status).unwrap();
        assert_eq!(
            (&value["request_id"], &value["state"], &value["priority"]),
            (&7.into(), &"no_bundle".into(), &"high".into())
        );
        assert_eq!((&value["tally"]["total_objects"], &value["tally"]["failed_cancelled"]), (&5.into(), &1.into()));
    }

    #[test]
    fn a_digest_may_be_either_name_and_all_else_is_a_reference() {
        let digest = bundles::image::Digest::sha256(b"x").to_string();
        let by_digest = image(&digest);
        assert_eq!((by_digest.chain_id, by_digest.manifest_digest), (digest.clone(), digest));
        assert_eq!(image("host/name:tag").reference, "host/name:tag");
    }
}
