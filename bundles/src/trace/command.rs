//! A container's command line in a trace file.

use crate::codec::{self, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

/// Most bytes of a command, counting one more for each word, which also bounds the number of words. The
/// command is for recognition only, and must fit with the rest of the head into one block.
const MAX: usize = 64 << 10;

/// Program and arguments; empty if not recorded.
#[derive(Debug, Default)]
pub(super) struct Command(pub(super) Vec<String>);

impl Encode for Command {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let size: usize = self.0.iter().map(|word| word.len() + 1).sum();
        if size > MAX {
            return Err(EncodeError::OtherString(format!(
                "a command of {size} bytes is too long: at most {MAX} are allowed"
            )));
        }
        self.0.encode(encoder)
    }
}

impl<C> Decode<C> for Command {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut words = Vec::new();
        let mut left = MAX;
        for _ in 0..u64::decode(decoder)? {
            left = left.checked_sub(1).ok_or(DecodeError::Other("a command has too many words"))?;
            let word = codec::text(decoder, "the rest of a command", left)?;
            left -= word.len();
            words.push(word);
        }
        Ok(Self(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::plain;

    #[test]
    fn commands_are_limited_in_size() {
        for (words, good) in [
            (vec![], true),
            (vec!["sh".to_string(), String::new(), "-c".into()], true),
            (vec!["x".repeat(MAX - 1)], true),
            (vec!["x".repeat(MAX)], false),
            (vec![String::new(); MAX], true),
            (vec![String::new(); MAX + 1], false),
        ] {
            assert_eq!(plain::encode(Command(words.clone())).is_ok(), good);
            let bytes = plain::encode(&words).unwrap();
            let decoded = plain::decode::<Command>(&bytes).map(|(command, _)| command.0);
            assert_eq!(decoded.ok(), good.then_some(words));
        }
    }
}
