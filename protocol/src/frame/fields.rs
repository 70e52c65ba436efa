//! The names of each message's fields, as in SPEC: an error names the bad field to the sender.

use super::head::FrameKind;
use crate::wire::Fields::{self, Leaf, List, Struct};

/// Returns the fields, in order, of a message that is not raw.
pub(super) const fn of(kind: FrameKind) -> Fields {
    match kind {
        FrameKind::HELLO => Struct(HELLO),
        FrameKind::WELCOME => Struct(WELCOME),
        FrameKind::ANNOUNCE => Struct(ANNOUNCE),
        FrameKind::REF_STATUS => Struct(REF_STATUS),
        FrameKind::BASIS => Struct(&[("commits", List(&Leaf))]),
        FrameKind::OFFER | FrameKind::MISSING => Struct(&[("ids", List(&Leaf))]),
        FrameKind::OBJECT_BEGIN => Struct(&[("stream", Leaf), ("id", Leaf)]),
        FrameKind::OBJECT_END => Struct(&[("stream", Leaf)]),
        FrameKind::STAGED | FrameKind::EXTENT | FrameKind::SENT => {
            Struct(&[("objects", Leaf), ("bytes", Leaf)])
        }
        FrameKind::FINALIZED => Struct(&[("refs", List(&REFUSAL))]),
        FrameKind::CLOSE => REFUSAL,
        FrameKind::REQUEST => Struct(REQUEST),
        FrameKind::ANSWER => Struct(ANSWER),
        // The message has no field, has one without a name, or is raw.
        FrameKind(_) => Leaf,
    }
}

const HELLO: &[(&str, Fields)] = &[
    ("version_min", Leaf),
    ("version_max", Leaf),
    ("features", Leaf),
    ("agent", Leaf),
    ("extensions", Leaf),
];

const WELCOME: &[(&str, Fields)] = &[
    ("version", Leaf),
    ("features", Leaf),
    ("limits", Struct(LIMITS)),
    ("agent", Leaf),
    ("pull_url", Leaf),
    ("identity", Leaf),
    ("extensions", Leaf),
];

const LIMITS: &[(&str, Fields)] = &[
    ("frame_len_max", Leaf),
    ("object_len_max", Leaf),
    ("push_objects_max", Leaf),
    ("push_len_max", Leaf),
];

const ANNOUNCE: &[(&str, Fields)] = &[
    ("options", Leaf),
    ("refs", List(&Struct(REF_UPDATE))),
    ("bases", List(&Struct(&[("name", Leaf), ("commit", Leaf)]))),
    ("more", Leaf),
    ("extensions", Leaf),
];

const REF_UPDATE: &[(&str, Fields)] = &[
    ("name", Leaf),
    ("commit", Leaf),
    ("detached", Leaf),
    ("expect", Leaf),
];

const REF_STATUS: &[(&str, Fields)] = &[
    (
        "refs",
        List(&Struct(&[("current", Leaf), ("verdict", REFUSAL)])),
    ),
    ("complete", List(&Leaf)),
];

const REQUEST: &[(&str, Fields)] = &[
    ("options", Leaf),
    ("history", Leaf),
    ("refs", List(&Struct(REF_REQUEST))),
    ("patterns", List(&Leaf)),
    ("held", List(&Leaf)),
    ("more", Leaf),
    ("extensions", Leaf),
];

const REF_REQUEST: &[(&str, Fields)] = &[("name", Leaf), ("current", Leaf), ("detached", Leaf)];

const ANSWER: &[(&str, Fields)] = &[
    ("refs", List(&Struct(&[("name", Leaf), ("state", Leaf)]))),
    ("basis", List(&Leaf)),
    ("more", Leaf),
];

/// Also the fields of `Close`.
const REFUSAL: Fields = Struct(&[("code", Leaf), ("text", Leaf)]);
