//! Limits that the daemon enforces on requests. Changing one changes the API.

/// Maximum size in bytes of a bundle file that the daemon reads, from whatever source, or that is sent with a request. A bundle of
/// the 60,000 objects for which the daemon has memory is smaller.
pub const MAX_BUNDLE: usize = 4 << 20;

/// Minimum of a bandwidth limit that is not 0, for one request or for the daemon. With less, a single object would take longer
/// than anybody waits.
pub const LEAST_BYTES_PER_SECOND: u64 = 1 << 10;
