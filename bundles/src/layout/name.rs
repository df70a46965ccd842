//! Names of repositories.

/// The longest repository name, in bytes. Names are host names; traces and bundles refuse longer ones.
pub const MAX_REPOSITORY_NAME: usize = 255;

/// Whether `name` is a fully qualified repository name: a host name with at least one dot.
///
/// Names become parts of paths, URLs and command lines, so every reader of outside input checks them with this function.
pub fn is_repository_name(name: &str) -> bool {
    name.len() <= MAX_REPOSITORY_NAME
        && name.contains('.')
        && name.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_with_a_dot_are_repository_names() {
        for good in ["sft.cern.ch", "a.b", "x_1.y-2.z"] {
            assert!(is_repository_name(good), "{good}");
        }
        for bad in ["", "localhost", "a..b", ".a", "a.", "-f.x", "a.b/c", "../x.y", "a b.c", &"x.".repeat(150)] {
            assert!(!is_repository_name(bad), "{bad}");
        }
    }
}
