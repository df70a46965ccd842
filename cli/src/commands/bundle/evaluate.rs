//! `bundle evaluate`: how well bundles of some traces fit other runs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::build_args::{self, BuildArgs, BuildInput};
use crate::json::{EvaluatedTrace, Evaluation, Fit};
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  Measure how good bundles of these runs are:
    cvmfs-prefetch bundle evaluate run-*.trace \\
      --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch \\
      --public-key /etc/cvmfs/keys/cern.ch/cern-it1.cern.ch.pub
";

/// Measure coverage and waste of bundles by leaving out one trace at a time
///
/// For each trace, builds a bundle of the other traces, and compares its objects with those that the trace needs: coverage is
/// the share of the needed objects that the bundle has, waste is the share of the bundle's bytes that is not needed.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Evaluate {
    /// Traces of one image, at least two
    #[arg(required = true, num_args = 2..)]
    traces: Vec<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    build: BuildArgs,
}

impl Evaluate {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let (uses, traced) = build_args::read_traces(&self.traces, &[])?;
        let BuildInput { image, tree, mut repositories, policy } = self.build.open(&traced).await?;
        let evaluation = bundles::builder::evaluate(&image, &tree, &uses, &mut repositories, &policy).await?;
        let (with_profile, common_only) = evaluation.total();
        let name = |index: usize| self.traces.get(index).map(|path| path.display().to_string()).unwrap_or_default();
        let traces = evaluation.traces.iter().map(|trace| EvaluatedTrace {
            trace: name(trace.trace),
            profile: trace.profile.clone(),
            with_profile: (&trace.requested).into(),
            common_only: (&trace.common).into(),
        });
        let report = Evaluation {
            traces: traces.collect(),
            incomplete_traces: evaluation.incomplete,
            with_profile: (&with_profile).into(),
            common_only: (&common_only).into(),
        };
        out.report(self.json, &report, print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, report: &Evaluation) -> io::Result<()> {
    writeln!(out, "each trace against a bundle of the other traces:\n")?;
    writeln!(out, "           with profile            | common section only")?;
    writeln!(out, "  objects  covered   bytes  wasted | covered   bytes  wasted  trace")?;
    for trace in &report.traces {
        let profile = if trace.profile.is_empty() { String::new() } else { format!(" ({})", trace.profile) };
        row(out, &trace.with_profile, &trace.common_only, &format!("{}{profile}", trace.trace))?;
    }
    row(out, &report.with_profile, &report.common_only, "total")?;
    let needed = &report.with_profile.needed;
    writeln!(out, "\nneeded in total: {} objects, {} to transfer", needed.objects, text::bytes(needed.bytes))?;
    if report.incomplete_traces > 0 {
        let count = report.incomplete_traces;
        writeln!(out, "not evaluated: {count} incomplete traces; objects that they lack would count as waste")?;
    }
    Ok(())
}

fn row(out: &mut impl Write, with_profile: &Fit, common_only: &Fit, name: &str) -> io::Result<()> {
    let shares = |fit: &Fit| {
        let [coverage, bytes, waste] = [fit.coverage, fit.byte_coverage, fit.waste].map(|share| share.to_string());
        format!("{coverage:>7} {bytes:>7} {waste:>7}")
    };
    writeln!(out, "{:>9}  {} | {}  {name}", with_profile.needed.objects, shares(with_profile), shares(common_only))
}
