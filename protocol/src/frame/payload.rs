//! Payloads: control messages through [`crate::wire`], object bytes unchanged.

use artifact_formats::{Checksum, ObjectId};
use bytes::{Buf, BufMut, Bytes};

use super::Frame;
use super::fields;
use super::head::FrameKind;
use super::objects::{Detached, ObjectChunk, Pack, Want};
use super::pull::{Held, Prefix};
use crate::wire::{self, PayloadError};

/// Returns whether [`decode`] has an arm for the kind.
pub(super) fn is_known(kind: FrameKind) -> bool {
    matches!(
        kind.0,
        0x01..=0x04 | 0x10..=0x13 | 0x20..=0x24 | 0x30..=0x33 | 0x40..=0x41 | 0x50..=0x54
    )
}

pub(super) fn encode(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Hello(message) => wire::encode(message, out),
        Frame::Welcome(message) => wire::encode(message, out),
        Frame::Announce(message) => wire::encode(message, out),
        Frame::RefStatus(message) => wire::encode(message, out),
        Frame::Basis(message) => wire::encode(message, out),
        Frame::Offer(message) => wire::encode(message, out),
        Frame::Want(message) => encode_want(message, out),
        Frame::Detached(message) => {
            out.extend_from_slice(message.commit.as_bytes());
            out.extend_from_slice(&message.metadata);
        }
        Frame::Pack(message) => encode_pack(message, out),
        Frame::ObjectBegin(message) => wire::encode(message, out),
        Frame::ObjectChunk(message) => {
            out.push(message.stream);
            out.extend_from_slice(&message.bytes);
        }
        Frame::ObjectEnd(message) => wire::encode(message, out),
        Frame::Staged(message) => wire::encode(message, out),
        Frame::Finalize(message) => wire::encode(message, out),
        Frame::Missing(message) => wire::encode(message, out),
        Frame::Finalized(message) => wire::encode(message, out),
        Frame::SummaryDone(message) => wire::encode(message, out),
        Frame::Ping(message) => wire::encode(message, out),
        Frame::Close(message) => wire::encode(message, out),
        Frame::Request(message) => wire::encode(message, out),
        Frame::Held(message) => {
            out.push(message.more.into());
            let objects = message.objects.iter();
            objects.for_each(|prefix| out.extend_from_slice(prefix.as_bytes()));
        }
        Frame::Answer(message) => wire::encode(message, out),
        Frame::Extent(message) => wire::encode(message, out),
        Frame::Sent(message) => wire::encode(message, out),
    }
}

pub(super) fn decode(kind: FrameKind, payload: Bytes) -> Result<Frame, PayloadError> {
    let fields = fields::of(kind);
    let frame = match kind {
        FrameKind::HELLO => Frame::Hello(wire::decode(&payload, fields)?),
        FrameKind::WELCOME => Frame::Welcome(wire::decode(&payload, fields)?),
        FrameKind::ANNOUNCE => Frame::Announce(wire::decode(&payload, fields)?),
        FrameKind::REF_STATUS => Frame::RefStatus(wire::decode(&payload, fields)?),
        FrameKind::BASIS => Frame::Basis(wire::decode(&payload, fields)?),
        FrameKind::OFFER => Frame::Offer(wire::decode(&payload, fields)?),
        FrameKind::WANT => Frame::Want(decode_want(payload)?),
        FrameKind::DETACHED => Frame::Detached(decode_detached(payload)?),
        FrameKind::PACK => Frame::Pack(decode_pack(payload)?),
        FrameKind::OBJECT_BEGIN => Frame::ObjectBegin(wire::decode(&payload, fields)?),
        FrameKind::OBJECT_CHUNK => Frame::ObjectChunk(decode_chunk(payload)?),
        FrameKind::OBJECT_END => Frame::ObjectEnd(wire::decode(&payload, fields)?),
        FrameKind::STAGED => Frame::Staged(wire::decode(&payload, fields)?),
        FrameKind::FINALIZE => Frame::Finalize(wire::decode(&payload, fields)?),
        FrameKind::MISSING => Frame::Missing(wire::decode(&payload, fields)?),
        FrameKind::FINALIZED => Frame::Finalized(wire::decode(&payload, fields)?),
        FrameKind::SUMMARY_DONE => Frame::SummaryDone(wire::decode(&payload, fields)?),
        FrameKind::PING => Frame::Ping(wire::decode(&payload, fields)?),
        FrameKind::CLOSE => Frame::Close(wire::decode(&payload, fields)?),
        FrameKind::REQUEST => Frame::Request(wire::decode(&payload, fields)?),
        FrameKind::HELD => Frame::Held(decode_held(payload)?),
        FrameKind::ANSWER => Frame::Answer(wire::decode(&payload, fields)?),
        FrameKind::EXTENT => Frame::Extent(wire::decode(&payload, fields)?),
        FrameKind::SENT => Frame::Sent(wire::decode(&payload, fields)?),
        FrameKind(_) => return Err(PayloadError::Raw("a kind without a payload")),
    };
    Ok(frame)
}

/// Number of answers as `u32`, then a bit for each, lowest first; unused bits are zero.
fn encode_want(want: &Want, out: &mut Vec<u8>) {
    out.put_u32_le(u32::try_from(want.wanted.len()).unwrap_or(u32::MAX));
    for eight in want.wanted.chunks(8) {
        out.push(
            eight
                .iter()
                .rev()
                .fold(0, |byte, wanted| (byte << 1) | u8::from(*wanted)),
        );
    }
}

fn decode_want(mut payload: Bytes) -> Result<Want, PayloadError> {
    let count = payload
        .try_get_u32_le()
        .map_err(|_| PayloadError::Raw("no count of answers"))?;
    let count = count as usize;
    if payload.len() != count.div_ceil(8) {
        return Err(PayloadError::Raw(
            "the count of answers is not that of its bits",
        ));
    }
    let mut bits = payload
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    let wanted = bits.by_ref().take(count).collect();
    if bits.any(|bit| bit) {
        return Err(PayloadError::Raw("a bit beyond the last answer is set"));
    }
    Ok(Want { wanted })
}

fn decode_detached(mut payload: Bytes) -> Result<Detached, PayloadError> {
    let commit = payload
        .split_to_checked(Checksum::LEN)
        .and_then(|bytes| Checksum::from_slice(&bytes))
        .ok_or(PayloadError::Raw("no commit before the detached metadata"))?;
    Ok(Detached {
        commit,
        metadata: payload,
    })
}

/// For each object its id, the length of its stored bytes as `u32`, and the bytes.
fn encode_pack(pack: &Pack, out: &mut Vec<u8>) {
    out.reserve(
        pack.objects
            .iter()
            .map(|(_, stored)| Pack::ENTRY_HEAD_LEN + stored.len())
            .sum(),
    );
    for (id, stored) in &pack.objects {
        out.extend_from_slice(&id.to_wire());
        out.put_u32_le(u32::try_from(stored.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(stored);
    }
}

fn decode_pack(mut payload: Bytes) -> Result<Pack, PayloadError> {
    let mut objects = Vec::new();
    while !payload.is_empty() {
        let id = payload
            .split_to_checked(ObjectId::WIRE_LEN)
            .and_then(|bytes| ObjectId::from_wire(bytes.first_chunk()?))
            .ok_or(PayloadError::Raw("no object id in a pack"))?;
        let len = payload
            .try_get_u32_le()
            .map_err(|_| PayloadError::Raw("no object length"))?;
        let stored = payload
            .split_to_checked(len as usize)
            .ok_or(PayloadError::Raw("an object is longer than its pack"))?;
        objects.push((id, stored));
    }
    if objects.is_empty() {
        return Err(PayloadError::Raw("an empty pack"));
    }
    Ok(Pack { objects })
}

fn decode_chunk(mut payload: Bytes) -> Result<ObjectChunk, PayloadError> {
    let stream = payload
        .try_get_u8()
        .map_err(|_| PayloadError::Raw("no stream number"))?;
    if payload.is_empty() {
        return Err(PayloadError::Raw("a chunk without bytes"));
    }
    Ok(ObjectChunk {
        stream,
        bytes: payload,
    })
}

/// Whether another one follows, as a byte, and then the prefixes.
fn decode_held(mut payload: Bytes) -> Result<Held, PayloadError> {
    let more = match payload.try_get_u8() {
        Ok(0) => false,
        Ok(1) => true,
        Ok(_) => return Err(PayloadError::Raw("more: a bool is 0 or 1")),
        Err(_) => return Err(PayloadError::Raw("no byte that says whether more follow")),
    };
    let (prefixes, rest) = payload.as_chunks();
    if prefixes.is_empty() || !rest.is_empty() {
        return Err(PayloadError::Raw(
            "the objects are not a number of eight bytes each",
        ));
    }
    let objects = prefixes.iter().map(|bytes| Prefix::new(*bytes)).collect();
    Ok(Held { more, objects })
}

/// `Bytes::split_to` that returns `None` instead of panicking.
trait SplitChecked {
    fn split_to_checked(&mut self, len: usize) -> Option<Bytes>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.len()).then(|| self.split_to(len))
    }
}
