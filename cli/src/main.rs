//! The program `cvmfs-prefetch`; see the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
