//! What the targets have in common.
//!
//! The first byte of most inputs tells what the rest of it is, and how it is wrapped. So each execution decodes one file, and
//! an input of a corpus stays what it is while other bytes of it are changed.

use std::cell::RefCell;

use bundles::image::{ChainId, Digest, ImageId};
use zstd::bulk::Compressor;

thread_local! {
    /// To make one takes longer than all the rest of an execution. The level is one that hardly looks for anything.
    static COMPRESSOR: RefCell<Compressor<'static>> = RefCell::new(Compressor::new(-100).expect("there is memory"));
}

/// `content` as one zstd frame.
pub fn compressed(content: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(content).expect("it fits"))
}

/// Some image.
pub fn image() -> ImageId {
    ImageId { chain_id: ChainId(Digest::from_bytes([0; 32])), manifest: None, reference: String::new() }
}

/// Takes `input` apart: of each piece, two bytes that tell what it is, its length (two bytes) and its content.
pub fn pieces(mut input: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([kind, flags, low, high], rest) = input.split_first_chunk::<4>()?;
        let (content, behind) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
        input = behind;
        Some((*kind, *flags, content))
    })
}
