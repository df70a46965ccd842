//! Options of `make bench-snapshotter`.

/// `make bench-snapshotter`.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Short run: fewer repetitions
    #[arg(long)]
    pub quick: bool,
    /// Repetitions of the comparison with overlayfs [default: 300, or 100 with --quick]
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Repetitions of Prepare with each state of the prefetch daemon [default: 3000, or 500 with --quick]
    #[arg(long)]
    pub prepares: Option<usize>,
}

impl Options {
    pub(super) fn pairs(&self) -> usize {
        self.pairs.unwrap_or(if self.quick { 100 } else { 300 })
    }

    pub(super) fn prepares(&self) -> usize {
        self.prepares.unwrap_or(if self.quick { 500 } else { 3000 })
    }
}
