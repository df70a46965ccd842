//! The names of the recorder's backends on the command line.

use tracer::Backend;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    #[default]
    Auto,
    Bpf,
    Fanotify,
}

impl From<Choice> for Backend {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Auto => Self::Auto,
            Choice::Bpf => Self::Bpf,
            Choice::Fanotify => Self::Fanotify,
        }
    }
}
