//! How often everything is repeated.

/// `make bench-snapshotter`.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Fewer repetitions
    #[arg(long)]
    pub quick: bool,
    /// How often Prepare and Remove of each chain are compared with overlayfs; 300, or 100 with --quick
    #[arg(long)]
    pub pairs: Option<usize>,
    /// How often Prepare is measured with each state of the prefetch daemon; 3000, or 500 with --quick
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
