//! Who used a file.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;

use crate::codec;

/// The kernel's `TASK_COMM_LEN` without the NUL.
const COMM: usize = 15;

/// The longest name in bytes: each byte of a name that is no UTF-8 may have become a replacement character of three.
const MAX_NAME: usize = 3 * COMM;

/// A process of the container. The default is one that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Process {
    /// Its number in the container's PID namespace; 0: not of the container, or not known.
    pub pid: u32,
    /// Its parent's number there; 0: not of the container, or not known.
    pub parent: u32,
    /// The kernel's short name of it (comm); empty if that is not known.
    pub name: String,
}

impl Process {
    /// One whose name is `comm` as the kernel has it, up to its NUL.
    pub fn new(pid: u32, parent: u32, comm: &[u8]) -> Self {
        let name = comm.split(|b| *b == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(&name[..name.len().min(COMM)]).into_owned();
        Self { pid, parent, name }
    }

    /// Whether it is known which process this is.
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

impl bincode::Encode for Process {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if self.name.len() > MAX_NAME {
            return Err(EncodeError::OtherString(format!("the name of process {} is too long", self.pid)));
        }
        (self.pid, self.parent, &self.name).encode(encoder)
    }
}

impl<C> bincode::Decode<C> for Process {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (pid, parent) = <(u32, u32)>::decode(decoder)?;
        Ok(Self { pid, parent, name: codec::text(decoder, "a process' name", MAX_NAME)? })
    }
}

bincode::impl_borrow_decode!(Process);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_nul_and_are_short() {
        for (comm, name) in [
            (&b"sh\0\0left over"[..], "sh".to_string()),
            (b"a-name-that-is-too-long", "a-name-that-is-".into()),
            (b"", String::new()),
            (&[0xff; 16], "\u{fffd}".repeat(15)),
        ] {
            let process = Process::new(1, 0, comm);
            assert_eq!(process.name, name);
            assert!(bincode::encode_to_vec(&process, bincode::config::standard()).is_ok(), "{name}");
        }
        let long = Process { name: "x".repeat(MAX_NAME + 1), ..Process::default() };
        assert!(bincode::encode_to_vec(&long, bincode::config::standard()).is_err());
    }
}
