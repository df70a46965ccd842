//! The recorder against real processes, and against strace and the programs' own knowledge.
//!
//! Root is needed; without it these tests fail.

mod cgroups;
mod crowded;
mod fanotify;
mod honest;
mod lookups;
mod other_kernels;
mod parts;
mod private;
mod site;
mod strace;
mod vm;
mod ways;
mod whose;
mod witness;
