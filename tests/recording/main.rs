//! Tests the recorder with real processes, and compares it with strace.

mod against_strace;
mod attach_fallback;
mod attribution;
mod cgroups;
mod exclusion;
mod fanotify;
mod kinds_of_use;
mod lookups;
mod losses;
mod other_kernels;
mod page_ranges;
mod strace;
mod test_container;
mod vm;
