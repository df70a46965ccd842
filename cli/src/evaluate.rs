//! `evaluate`: how good bundles of some traces are.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::builder::{Evaluation, Fit};

use crate::making::{self, Ready};
use crate::{output, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Traces of one image, two or more
    #[arg(required = true, num_args = 2..)]
    traces: Vec<PathBuf>,
    #[command(flatten)]
    making: making::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let (uses, traced) = making::read(&args.traces, &[])?;
    let Ready { image, tree, mut repositories, policy } = args.making.ready(&traced).await?;
    let evaluation = bundles::builder::evaluate(&image, &tree, &uses, &mut repositories, &policy).await?;
    output::print(|out| match args.json {
        true => output::json(out, &json(&evaluation, &args.traces)),
        false => print(out, &evaluation, &args.traces),
    })
}

fn print(out: &mut impl Write, evaluation: &Evaluation, traces: &[PathBuf]) -> io::Result<()> {
    writeln!(
        out,
        "each trace against a bundle of the others: common part and the trace's profile | common part alone\n"
    )?;
    writeln!(out, "  objects  covered   bytes  wasted | covered   bytes  wasted  trace")?;
    let mut line = |asked: &Fit, common: &Fit, name: &str| {
        let shares = |fit: &Fit| {
            let [coverage, bytes, waste] =
                [fit.coverage(), fit.byte_coverage(), fit.waste()].map(|share| share.to_string());
            format!("{coverage:>7} {bytes:>7} {waste:>7}")
        };
        writeln!(out, "{:>9}  {} | {}  {name}", asked.needed.objects, shares(asked), shares(common))
    };
    for one in &evaluation.traces {
        let name = traces.get(one.trace).map(|path| path.display().to_string()).unwrap_or_default();
        let profile = if one.profile.is_empty() { String::new() } else { format!(" ({})", one.profile) };
        line(&one.requested, &one.common, &format!("{name}{profile}"))?;
    }
    let (asked, common) = evaluation.total();
    line(&asked, &common, "in total")?;
    let needed = text::bytes(asked.needed.bytes);
    writeln!(out, "\nneeded in all: {} objects, {needed} to transfer", asked.needed.objects)?;
    if evaluation.incomplete > 0 {
        writeln!(
            out,
            "not left out: {} incomplete traces, as what they miss would look like waste",
            evaluation.incomplete
        )?;
    }
    Ok(())
}

fn json(evaluation: &Evaluation, traces: &[PathBuf]) -> serde_json::Value {
    let fit = |fit: &Fit| {
        let shares = [fit.coverage(), fit.byte_coverage(), fit.waste()];
        serde_json::json!({
            "needed": fit.needed, "held": fit.held, "hit": fit.hit,
            "coverage": shares[0], "byte_coverage": shares[1], "waste": shares[2],
        })
    };
    let one = |one: &bundles::builder::HeldOut| {
        let name = traces.get(one.trace).map(|path| path.display().to_string());
        serde_json::json!({
            "trace": name, "profile": one.profile, "requested": fit(&one.requested), "common": fit(&one.common),
        })
    };
    let (asked, common) = evaluation.total();
    serde_json::json!({
        "traces": evaluation.traces.iter().map(one).collect::<Vec<_>>(),
        "incomplete": evaluation.incomplete,
        "requested": fit(&asked), "common": fit(&common),
    })
}
