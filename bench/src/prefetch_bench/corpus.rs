//! Synthetic files like those of a program's packages: given number and total size, log-normal sizes, compressible to about a
//! third. The same seed gives the same bytes.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use testbed::images::LayerTar;

const SMALLEST: f64 = 1024.0;
const LARGEST: f64 = 6.0 * 1024.0 * 1024.0;
/// Standard deviation of the logarithms of the sizes: half of the files are smaller than a quarter of the mean, and a few hold
/// most of the bytes.
const SPREAD: f64 = 1.8;
/// Size of the vocabulary.
const WORDS: usize = 2000;
/// Of this many words, one is random bytes and two are copies of an earlier passage; zlib then compresses the text to a third.
const PLAIN: u32 = 40;
/// Length of such a passage, and its largest distance.
const PASSAGE: usize = 32;
const DISTANCE: usize = 30_000;

/// Parameters of the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Corpus {
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) seed: u64,
}

impl Corpus {
    /// The path of a file in the container, without the leading slash.
    pub(super) fn path(&self, number: usize) -> String {
        format!("usr/lib/package-{}-{:02}/module_{number:04}.py", self.seed, number / 100)
    }

    /// Puts all files into a layer.
    pub(super) fn fill(&self, tar: &mut LayerTar) -> Result<()> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let words: Vec<Vec<u8>> = (0..WORDS).map(|_| word(&mut random)).collect();
        for (number, size) in self.sizes(&mut random).into_iter().enumerate() {
            tar.file(self.path(number), 0o644, text(&words, size, &mut random))?;
        }
        Ok(())
    }

    /// Sizes whose sum is the total.
    fn sizes(&self, random: &mut StdRng) -> Vec<usize> {
        let drawn: Vec<f64> = (0..self.files).map(|_| (SPREAD * normal(random)).exp()).collect();
        let scaled = |factor: f64| drawn.iter().map(move |size| (size * factor).clamp(SMALLEST, LARGEST));
        // Clamping changes the sum, so the factor is found by bisection.
        let mut low = 0.0;
        let mut high = self.bytes as f64;
        for _ in 0..64 {
            let middle = (low + high) / 2.0;
            if scaled(middle).sum::<f64>() < self.bytes as f64 { low = middle } else { high = middle }
        }
        scaled(high).map(|size| size as usize).collect()
    }
}

fn text(words: &[Vec<u8>], size: usize, random: &mut StdRng) -> Vec<u8> {
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        match random.random_range(0..PLAIN) {
            0 => text.extend_from_slice(&random.next_u64().to_le_bytes()),
            1 | 2 if text.len() > 2 * PASSAGE => {
                let from = random.random_range(text.len().saturating_sub(DISTANCE)..text.len() - PASSAGE);
                text.extend_from_within(from..from + PASSAGE);
            }
            _ => {
                // Some words are much more frequent than others.
                let rank = (words.len() as f64 * random.random::<f64>().powi(3)) as usize;
                text.extend_from_slice(&words[rank]);
                text.push(b' ');
            }
        }
    }
    text.truncate(size);
    text
}

fn word(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(3..10);
    (0..length).map(|_| random.random_range(b'a'..=b'z')).collect()
}

/// Approximately normally distributed: the sum of twelve uniform numbers.
fn normal(random: &mut StdRng) -> f64 {
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_log_normal_with_the_given_sum() {
        let corpus = Corpus { files: 2000, bytes: 195_000_000, seed: 1 };
        let mut sizes = corpus.sizes(&mut StdRng::seed_from_u64(1));
        let bytes: usize = sizes.iter().sum();
        assert!(bytes.abs_diff(195_000_000) < 10_000, "{bytes}");
        sizes.sort_unstable();
        assert!(sizes[0] >= 1024 && sizes[1000] < 40_000 && sizes[1999] > 1_000_000, "{sizes:?}");
    }
}
