//! The stored form of a file object: header, then the content as one raw deflate stream.

use artifact_formats::limits::max_deflated_len;
use artifact_formats::{Checksum, FileHeader};
use flate2::{Decompress, FlushDecompress, Status};
use sha2::{Digest, Sha256};

use crate::verify::rejection::Rejection;

/// Moves missing bytes of the header from the beginning of `stored` to `collected`, and returns the
/// rest.
pub(super) fn collect_header<'a>(
    collected: &mut Vec<u8>,
    stored: &'a [u8],
) -> Result<&'a [u8], Rejection> {
    let mut rest = stored;
    while !rest.is_empty() {
        let needed = header_needs(collected)?;
        if needed == 0 {
            break;
        }
        let (header, after) = rest.split_at(needed.min(rest.len()));
        collected.extend_from_slice(header);
        rest = after;
    }
    Ok(rest)
}

/// The content of a file whose header has been parsed.
#[derive(Debug)]
pub(super) struct Content {
    // Over the header without the size, then the content.
    hash: Sha256,
    size: u64,
    // inflated <= size
    inflated: u64,
    // Bytes that the deflate stream may still have (LIM-25).
    deflated_left: u64,
    has_ended: bool,
    header: FileHeader,
}

impl Content {
    /// Begins after `header`; an [`Inflation`] that was reset must inflate the content.
    pub(super) fn begin(header: &[u8], object_len_max: u64) -> Result<Self, Rejection> {
        let (header, size) = FileHeader::parse_archive(header).map_err(Rejection::Structure)?;
        if size > object_len_max {
            return Err(Rejection::TooLarge {
                limit: object_len_max,
            });
        }
        Ok(Self {
            hash: Sha256::new_with_prefix(header.to_hashed()),
            size,
            inflated: 0,
            deflated_left: max_deflated_len(size),
            has_ended: header.symlink_target().is_some(),
            header,
        })
    }

    /// Returns the length of the content according to its header, in bytes.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Inflates and hashes the next stored bytes, and hands the inflated ones to `sink`.
    pub(super) fn append(
        &mut self,
        stored: &[u8],
        inflation: &mut Inflation,
        sink: Sink<'_>,
    ) -> Result<(), Rejection> {
        let mut rest = stored;
        if rest.is_empty() {
            return Ok(());
        }
        if self.has_ended {
            return Err(malformed("bytes follow its end"));
        }
        self.deflated_left = self
            .deflated_left
            .checked_sub(rest.len() as u64)
            .ok_or(malformed(
                "its content takes up more than any compressor needs",
            ))?;
        loop {
            let step = inflation.step(rest, self.size - self.inflated)?;
            rest = rest.get(step.consumed..).unwrap_or_default();
            self.inflated += step.output.len() as u64;
            if self.inflated > self.size {
                return Err(malformed("its content is longer than its header says"));
            }
            self.hash.update(step.output);
            sink(step.output);
            if step.has_ended {
                self.has_ended = true;
                return match rest {
                    [] => Ok(()),
                    _ => Err(malformed("bytes follow its end")),
                };
            }
            if rest.is_empty() && !step.is_full {
                return Ok(());
            }
            if step.consumed == 0 && step.output.is_empty() {
                return Err(malformed("its content does not inflate"));
            }
        }
    }

    /// Ends the content, and returns the object's checksum and its header.
    pub(super) fn finish(self) -> Result<(Checksum, FileHeader), Rejection> {
        if !self.has_ended {
            return Err(malformed("its content is cut off"));
        }
        if self.inflated != self.size {
            return Err(malformed("its content is shorter than its header says"));
        }
        Ok((Checksum::new(self.hash.finalize().into()), self.header))
    }
}

/// Takes the inflated content of a file, of which nothing is known to be right yet.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// An inflater and its output buffer.
#[derive(Debug)]
pub(super) struct Inflation {
    inflater: Decompress,
    output: Vec<u8>,
}

impl Inflation {
    /// For a sequence of small files, each of which comes whole.
    pub(super) fn of_small_files() -> Self {
        Self::new(SMALL_OUTPUT_LEN)
    }

    /// For one file of `size` bytes.
    pub(super) fn of_one_file(size: u64) -> Self {
        let most = usize::try_from(size).unwrap_or(usize::MAX);
        Self::new(most.saturating_add(1).min(LARGE_OUTPUT_LEN))
    }

    fn new(output_len: usize) -> Self {
        Self {
            inflater: Decompress::new(false),
            output: vec![0; output_len],
        }
    }

    /// Prepares for another file.
    pub(super) fn reset(&mut self) {
        self.inflater.reset(false);
    }
}

/// The result of one call of the inflater.
struct Step<'o> {
    consumed: usize,
    output: &'o [u8],
    is_full: bool,
    has_ended: bool,
}

impl Inflation {
    /// Inflates at most a buffer full, and never more than one byte beyond `wanted`.
    fn step(&mut self, deflated: &[u8], wanted: u64) -> Result<Step<'_>, Rejection> {
        // The extra byte distinguishes content that is too long from content that ends here.
        let room = usize::try_from(wanted)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let room = room.min(self.output.len());
        let output = self.output.get_mut(..room).unwrap_or_default();
        let (total_in, total_out) = (self.inflater.total_in(), self.inflater.total_out());
        let status = self
            .inflater
            .decompress(deflated, output, FlushDecompress::None)
            .map_err(|_| malformed("its content does not inflate"))?;
        // Both are within the lengths of the slices.
        let advance = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
        let consumed = advance(total_in, self.inflater.total_in());
        let produced = advance(total_out, self.inflater.total_out());
        Ok(Step {
            consumed,
            output: output.get(..produced).unwrap_or_default(),
            is_full: produced == room,
            has_ended: status == Status::StreamEnd,
        })
    }
}

/// Returns how many bytes of a header are missing.
pub(super) fn header_needs(collected: &[u8]) -> Result<usize, Rejection> {
    FileHeader::archive_bytes_needed(collected).map_err(Rejection::Structure)
}

const fn malformed(rule: &'static str) -> Rejection {
    Rejection::Container { rule }
}

/// Length of the buffer into which content is inflated and from which it is hashed, in bytes.
const SMALL_OUTPUT_LEN: usize = 64 * 1024;
/// The same for a file that comes in pieces. Whenever the buffer is full, the inflater copies the
/// last 32 KiB for back-references: with the smaller buffer, it would copy half of all content.
const LARGE_OUTPUT_LEN: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_one_byte_beyond_what_is_wanted_is_ever_inflated() {
        let deflated = deflate(&vec![0; 1 << 20], 9);
        for wanted in [0, 1, 100, 65_534, 65_535, 65_536, 262_143, u64::MAX] {
            for (mut inflation, len) in [
                (Inflation::of_small_files(), SMALL_OUTPUT_LEN),
                (Inflation::of_one_file(1 << 20), LARGE_OUTPUT_LEN),
                (Inflation::of_one_file(100), 101),
            ] {
                let step = inflation.step(&deflated, wanted).unwrap();
                let most = wanted.saturating_add(1).min(len as u64);
                assert_eq!(step.output.len() as u64, most);
                assert!(step.is_full && !step.has_ended);
            }
        }
    }

    #[test]
    fn every_compressor_and_level_stays_within_the_longest_stream_taken() {
        let mut noise = vec![0u8; 70_000];
        let mut state = 1u32;
        for byte in &mut noise {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // The fixed code spends nine bits on bytes above 143.
            *byte = (state >> 24) as u8 | 0x90;
        }
        for len in (0..2_000)
            .step_by(37)
            .chain([16_384, 65_535, 65_536, 70_000])
        {
            for level in 0..=9 {
                let content = noise.get(..len).unwrap();
                let deflated = deflate(content, level);
                assert!(deflated.len() as u64 <= max_deflated_len(len as u64));
            }
        }
    }

    fn deflate(content: &[u8], level: u32) -> Vec<u8> {
        let mut encoder =
            flate2::read::DeflateEncoder::new(content, flate2::Compression::new(level));
        let mut deflated = Vec::new();
        std::io::Read::read_to_end(&mut encoder, &mut deflated).unwrap();
        deflated
    }
}
