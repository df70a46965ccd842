//! Labels, and how large they may be.

use std::collections::BTreeMap;

use crate::error::Error;

/// Labels as they are kept.
pub type Labels = BTreeMap<String, String>;

/// Bytes of a key and its value together. containerd's limit.
pub const SIZE_LIMIT: usize = 4096;
/// Bytes of a key that an error shows.
const SHOWN: usize = 64;

/// Refuses labels that containerd would refuse.
pub fn check(labels: &Labels) -> Result<(), Error> {
    for (key, value) in labels {
        let size = key.len() + value.len();
        if size > SIZE_LIMIT {
            let shown: String = key.chars().take(SHOWN).collect();
            return Err(Error::InvalidArgument(format!(
                "label {shown:?} has {size} bytes of key and value, more than {SIZE_LIMIT}"
            )));
        }
    }
    Ok(())
}

/// containerd's store keeps no label without a value: setting it to nothing removes it.
pub fn without_empty(mut labels: Labels) -> Labels {
    labels.retain(|_, value| !value.is_empty());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_share_the_limit() {
        for (key, value, is_right) in
            [(1, 4095, true), (4096, 0, true), (1, 4096, false), (4097, 0, false), (2048, 2049, false), (0, 0, true)]
        {
            // Two bytes a character: the limit is of bytes, and cutting must not split one.
            let key = "ü".repeat(key / 2) + &"k".repeat(key % 2);
            let checked = check(&[(key, "v".repeat(value))].into());
            assert_eq!(checked.is_ok(), is_right, "{value}");
            if let Err(error) = checked {
                assert!(error.to_string().len() < 300, "{error}");
            }
        }
    }
}
