//! Processes that used files.

use serde::Serialize;

use crate::codec::{self, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, impl_borrow_decode};

/// The kernel's `TASK_COMM_LEN` without the NUL.
const COMM: usize = 15;

/// Longest name in bytes: each byte that is not UTF-8 may become a replacement character of three bytes.
const MAX_NAME: usize = 3 * COMM;

/// A process of the container. The default is an unknown process.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Process {
    /// PID in the container's PID namespace; 0 if unknown or outside the container.
    pub pid: u32,
    /// PID of the parent; 0 if unknown or outside the container.
    pub parent: u32,
    /// The kernel's short name of the process (comm); empty if unknown.
    pub name: String,
}

impl Process {
    /// A process whose name is the kernel's `comm`, up to its NUL.
    pub fn new(pid: u32, parent: u32, comm: &[u8]) -> Self {
        let name = comm.split(|b| *b == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(&name[..name.len().min(COMM)]).into_owned();
        Self { pid, parent, name }
    }

    /// Whether the process is known.
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

impl Encode for Process {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if self.name.len() > MAX_NAME {
            return Err(EncodeError::OtherString(format!("the name of process {} is too long", self.pid)));
        }
        (self.pid, self.parent, &self.name).encode(encoder)
    }
}

impl<C> Decode<C> for Process {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (pid, parent) = <(u32, u32)>::decode(decoder)?;
        Ok(Self { pid, parent, name: codec::text(decoder, "a process name", MAX_NAME)? })
    }
}

impl_borrow_decode!(Process);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::plain;

    #[test]
    fn names_end_at_the_nul_and_are_limited() {
        for (comm, name) in [
            (&b"sh\0\0left over"[..], "sh".to_string()),
            (b"a-name-that-is-too-long", "a-name-that-is-".into()),
            (b"", String::new()),
            (&[0xff; 16], "\u{fffd}".repeat(15)),
        ] {
            let process = Process::new(1, 0, comm);
            assert_eq!(process.name, name);
            assert!(plain::encode(&process).is_ok(), "{name}");
        }
        let long = Process { name: "x".repeat(MAX_NAME + 1), ..Process::default() };
        assert!(plain::encode(&long).is_err());
    }
}
