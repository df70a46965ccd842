//! A container's command line, as it is in a file.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};

use crate::codec;

/// The most bytes of a command, each word with one more for its end (so the number of words is bounded, too). A command
/// is there to be recognised; the head that it is part of is written at once, and is at most one block.
const MAX: usize = 64 << 10;

/// Program and arguments; empty if it is not told.
#[derive(Debug, Default)]
pub(super) struct Command(pub(super) Vec<String>);

impl bincode::Encode for Command {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let size: usize = self.0.iter().map(|word| word.len() + 1).sum();
        match size {
            0..=MAX => self.0.encode(encoder),
            _ => Err(EncodeError::OtherString(format!("a command of {size} bytes, at most {MAX} are allowed"))),
        }
    }
}

impl<C> bincode::Decode<C> for Command {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (mut words, mut left) = (Vec::new(), MAX);
        for _ in 0..u64::decode(decoder)? {
            left = left.checked_sub(1).ok_or(DecodeError::Other("a command of too many words"))?;
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

    #[test]
    fn commands_are_written_and_read_up_to_a_size() {
        let config = bincode::config::standard();
        for (words, good) in [
            (vec![], true),
            (vec!["sh".to_string(), String::new(), "-c".into()], true),
            (vec!["x".repeat(MAX - 1)], true),
            (vec!["x".repeat(MAX)], false),
            (vec![String::new(); MAX], true),
            (vec![String::new(); MAX + 1], false),
        ] {
            assert_eq!(bincode::encode_to_vec(Command(words.clone()), config).is_ok(), good);
            let bytes = bincode::encode_to_vec(&words, config).unwrap();
            let decoded = bincode::decode_from_slice::<Command, _>(&bytes, config).map(|(command, _)| command.0);
            assert_eq!(decoded.ok(), good.then_some(words));
        }
    }
}
