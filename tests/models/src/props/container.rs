//! Stored objects: one verdict, in whatever pieces they come.

use std::io::Read;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{
    Attributes, Checksum, Commit, Dirmeta, Dirtree, FileHeader, ObjectId, ObjectKind, Xattrs,
};
use artifact_store::verify::{Rejection, Scratch, Verified, Verifier, verify};
use flate2::read::DeflateEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};

use crate::props::draw::Draw;

/// The claim: an object gets the same verdict whether its stored bytes come at once or in pieces,
/// and the verdict of a plain reading of the format. A malformed object is refused under its right
/// checksum; under any other checksum every object is.
pub fn an_object_is_judged_alike_in_any_pieces(input: &[u8]) {
    let mut draw = Draw::new(input);
    let pieces: Vec<usize> = (0..draw.below(6)).map(|_| draw_len(&mut draw)).collect();
    let limit = *draw.pick(&[1 << 20, 5_000, 100]);
    let kind = *draw.pick(&[
        ObjectKind::File,
        ObjectKind::File,
        ObjectKind::File,
        ObjectKind::Dirtree,
        ObjectKind::Dirmeta,
        ObjectKind::Commit,
    ]);
    let lies = draw.once_in(8);
    let stored = match kind {
        ObjectKind::File if !draw.once_in(4) => file(&mut draw),
        _ => draw.rest().to_vec(),
    };

    let (checksum, is_good) = plain_reading(kind, &stored, limit);
    let id = ObjectId::new(kind, if lies { NOBODYS } else { checksum });
    let whole = verify(id, &stored, limit, &mut Scratch::default());
    let verdict = whole
        .as_ref()
        .map(Verified::id)
        .map_err(ToString::to_string);
    assert_eq!(verdict.is_ok(), is_good && !lies, "{verdict:?}");
    if let Ok(verified) = &whole {
        assert_eq!(
            (verified.id(), verified.stored_len()),
            (id, stored.len() as u64)
        );
    }
    let in_pieces = judge_in_pieces(id, &stored, limit, &pieces);
    assert_eq!(
        in_pieces.is_ok(),
        whole.is_ok(),
        "{whole:?}, in pieces {in_pieces:?}"
    );
}

fn judge_in_pieces(
    id: ObjectId,
    stored: &[u8],
    limit: u64,
    pieces: &[usize],
) -> Result<Verified, Rejection> {
    let mut verifier = Verifier::new(id, limit);
    let mut rest = stored;
    // The lengths, repeated; byte by byte if there are none.
    let lens = if pieces.is_empty() { &[1] } else { pieces };
    for len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*len).clamp(1, rest.len()));
        verifier.append(piece)?;
        rest = after;
    }
    verifier.finish()
}

/// Returns the checksum, if the object has one, and whether the object is well-formed.
pub fn plain_reading(kind: ObjectKind, stored: &[u8], limit: u64) -> (Checksum, bool) {
    let fits = stored.len() as u64 <= limit;
    let is_good = match kind {
        ObjectKind::File => {
            let (checksum, is_good) = plain_reading_of_a_file(stored, limit);
            return (checksum, is_good && fits);
        }
        ObjectKind::Commit => Commit::parse(stored).is_ok(),
        ObjectKind::Dirtree => Dirtree::parse(stored).is_ok(),
        ObjectKind::Dirmeta => Dirmeta::parse(stored).is_ok(),
    };
    let fits = fits && stored.len() <= MAX_METADATA_LEN;
    (Checksum::of(stored), is_good && fits)
}

fn plain_reading_of_a_file(stored: &[u8], limit: u64) -> (Checksum, bool) {
    let Some((head, body)) = split_header(stored) else {
        return (NOBODYS, false);
    };
    let Ok((header, size)) = FileHeader::parse_archive(head) else {
        return (NOBODYS, false);
    };
    // Read everything, and one more byte to detect excess.
    let room = usize::try_from(size.min(limit)).expect("the limits are small") + 1;
    let mut content = vec![0; room];
    let mut inflater = Decompress::new(false);
    let status = inflater.decompress(body, &mut content, FlushDecompress::Finish);
    content.truncate(usize::try_from(inflater.total_out()).expect("it fits the room"));
    let hashed = [&header.to_hashed()[..], &content].concat();
    let is_link = header.symlink_target().is_some();
    let longest = size.saturating_add(size / 8 + size / 64 + 64);
    let is_whole = matches!(status, Ok(Status::StreamEnd))
        && inflater.total_in() == body.len() as u64
        && inflater.total_out() == size
        && body.len() as u64 <= longest;
    let is_good = if is_link { body.is_empty() } else { is_whole };
    (Checksum::of(&hashed), is_good && size <= limit)
}

/// Splits the stored bytes of a file into its header and the deflated content.
pub fn split_header(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_be_bytes(*stored.first_chunk()?);
    stored.split_at_checked(8 + usize::try_from(len).ok()?)
}

/// Draws a file that is stored correctly, or nearly.
pub fn file(draw: &mut Draw<'_>) -> Vec<u8> {
    let mode = *draw.pick(&[0o100_644, 0o100_644, 0o104_755, 0o120_777]);
    let is_link = mode == 0o120_777;
    let xattrs = (0..draw.below(3))
        .map(|number| (format!("user.{number}").into(), draw.bytes(40).to_vec()))
        .collect();
    let attributes = Attributes {
        uid: u32::try_from(draw.below(70_000)).expect("it is small"),
        gid: 0,
        mode,
        xattrs: Xattrs::new(xattrs).expect("the names are plain"),
    };
    let target = is_link.then(|| "t".repeat(1 + draw.below(5_000)));
    let Ok(header) = FileHeader::new(attributes, target) else {
        return Vec::new();
    };
    let mut content = Vec::new();
    for _ in 0..if is_link { 0 } else { draw.below(5) } {
        match draw.below(2) {
            0 => content.extend(draw.bytes(60)),
            _ => content.resize(content.len() + draw_len(draw), b'a'),
        }
    }
    let mut size = content.len() as u64;
    if draw.once_in(6) {
        size = *draw.pick(&[0, size + 1, size.wrapping_sub(1), u64::MAX]);
    }
    let mut stored = header.to_archive(size);
    for _ in 0..if draw.once_in(6) {
        1 + draw.below(40)
    } else {
        0
    } {
        stored.extend(EMPTY_BLOCK);
    }
    if !is_link || draw.once_in(8) {
        let level = u32::try_from(draw.below(10)).expect("it is a level");
        let encoder = DeflateEncoder::new(&content[..], Compression::new(level));
        let read = { encoder }.read_to_end(&mut stored);
        read.expect("memory can be read");
    }
    if draw.once_in(3) {
        damage(&mut stored, draw);
    }
    stored
}

fn damage(stored: &mut Vec<u8>, draw: &mut Draw<'_>) {
    for _ in 0..1 + draw.below(3) {
        match draw.below(4) {
            0 => stored.extend(draw.bytes(20)),
            1 => stored.truncate(draw.below(stored.len() + 1)),
            _ if stored.is_empty() => {}
            // The header's lengths are near the beginning, the last block's near the end.
            2 => {
                let at = draw.below(stored.len().min(80));
                stored[at] ^= 1 << draw.below(8);
            }
            _ => {
                let at = stored.len() - 1 - draw.below(stored.len().min(40));
                stored[at] ^= 1 << draw.below(8);
            }
        }
    }
}

/// Draws a length: a short one, or one close to the size of the verifier's buffer.
fn draw_len(draw: &mut Draw<'_>) -> usize {
    let base = *draw.pick(&[1, 1, 40, 1_000, 65_530, 131_070]);
    base + draw.below(10)
}

/// An empty block that is not the last.
const EMPTY_BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// A checksum that no object has.
const NOBODYS: Checksum = Checksum::new([0xaa; 32]);
