//! An open file: one object, or the chunks that reads touch.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::entry::{Entry, Piece};
use super::objects::Objects;
use super::tree::Tree;

#[derive(Debug)]
pub(super) enum OpenFile {
    /// The object's file, which stays readable if the cache drops its name.
    Whole(File),
    Chunked {
        /// By offset, without gaps.
        pieces: Vec<Piece>,
        objects: Arc<Objects>,
        /// The piece read last.
        current: Mutex<Option<(usize, Arc<File>)>>,
    },
}

impl OpenFile {
    /// Fetches the object if it is not chunked.
    pub(super) fn open(path: &str, entry: &Entry, tree: &Tree, objects: &Arc<Objects>) -> Result<Self> {
        if let Some(object) = entry.object() {
            return Ok(Self::Whole(objects.open(&object)?));
        }
        let pieces = tree.pieces(path)?;
        Ok(Self::Chunked { pieces, objects: Arc::clone(objects), current: Mutex::default() })
    }

    /// At most `size` bytes from `offset`; fewer only at the end of the file.
    pub(super) fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        match self {
            Self::Whole(file) => read(file, offset, size),
            Self::Chunked { pieces, objects, current } => {
                let mut data = Vec::with_capacity(size);
                let mut index = pieces.partition_point(|piece| piece.offset + piece.size <= offset);
                while data.len() < size && index < pieces.len() {
                    let piece = &pieces[index];
                    let within = offset + data.len() as u64 - piece.offset;
                    let length = (size - data.len()).min((piece.size - within) as usize);
                    let file = file_of(index, piece, objects, current)?;
                    let bytes = read(&file, within, length)?;
                    let complete = bytes.len() == length;
                    data.extend(bytes);
                    if !complete {
                        break;
                    }
                    index += 1;
                }
                Ok(data)
            }
        }
    }
}

fn file_of(
    index: usize,
    piece: &Piece,
    objects: &Objects,
    current: &Mutex<Option<(usize, Arc<File>)>>,
) -> Result<Arc<File>> {
    if let Some((found, file)) = &*current.lock().unwrap_or_else(PoisonError::into_inner)
        && *found == index
    {
        return Ok(Arc::clone(file));
    }
    let file = Arc::new(objects.open(&piece.object)?);
    *current.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, Arc::clone(&file)));
    Ok(file)
}

fn read(file: &File, offset: u64, size: usize) -> Result<Vec<u8>> {
    let mut data = vec![0; size];
    let mut done = 0;
    while done < size {
        match file.read_at(&mut data[done..], offset + done as u64).context("cannot read the cache")? {
            0 => break,
            count => done += count,
        }
    }
    data.truncate(done);
    Ok(data)
}
