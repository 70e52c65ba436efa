//! Arbitrary frames: every message, with every variant of its content. Sizes stay small; limits
//! have tests of their own.

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName, RefPattern};
use artifact_protocol::frame::{
    Announce, Answer, Base, Basis, Close, CloseCode, Detached, Expect, Extensions, Extent,
    Finalize, Finalized, Frame, Held, Hello, Missing, ObjectBegin, ObjectChunk, ObjectEnd, Offer,
    Pack, Ping, Prefix, PullOptions, PullState, PushOptions, RefAnswer, RefOutcome, RefRequest,
    RefState, RefStatus, RefUpdate, Refusal, RefusalCode, Request, Sent, Staged, SummaryDone,
    Verdict, Want, Welcome,
};
use artifact_protocol::limits::Limits;
use artifact_protocol::{Features, Text, Version};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

/// Yields any frame.
pub fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        greeting(),
        announcement(),
        negotiation(),
        object_stream(),
        closing(),
        pull(),
    ]
}

/// Yields any checksum.
pub fn checksum() -> impl Strategy<Value = Checksum> {
    any::<[u8; 32]>().prop_map(Checksum::new)
}

/// Yields any object id.
pub fn object_id() -> impl Strategy<Value = ObjectId> {
    (select(&ObjectKind::ALL[..]), checksum()).prop_map(|(kind, sum)| ObjectId::new(kind, sum))
}

/// Yields a ref name of one to four components.
pub fn ref_name() -> impl Strategy<Value = RefName> {
    let component = "[0-9A-Z_a-s][-.0-9A-Z_a-z]{0,11}";
    // Some are only the beginning of a checksum.
    let name = |components: Vec<String>| components.join("/").parse().ok();
    vec(component, 1..5).prop_filter_map("it is no name", name)
}

/// Yields any text.
pub fn text() -> impl Strategy<Value = Text> {
    any::<String>().prop_map(|text| Text::new(&text))
}

fn greeting() -> impl Strategy<Value = Frame> {
    let hello = (versions(), any::<u64>(), text(), extensions()).prop_map(
        |((version_min, version_max), features, agent, extensions)| {
            Frame::Hello(Hello {
                version_min,
                version_max,
                features: Features(features),
                agent,
                extensions,
            })
        },
    );
    let welcome = (
        versions(),
        any::<u64>(),
        limits(),
        (text(), option::of(text()), option::of(text())),
        extensions(),
    )
        .prop_map(
            |((version, _), features, limits, (agent, pull_url, identity), extensions)| {
                Frame::Welcome(Welcome {
                    version,
                    features: Features(features),
                    limits,
                    agent,
                    pull_url,
                    identity,
                    extensions,
                })
            },
        );
    prop_oneof![hello, welcome]
}

fn versions() -> impl Strategy<Value = (Version, Version)> {
    any::<(u16, u16)>().prop_map(|(min, max)| (Version(min), Version(max)))
}

fn limits() -> impl Strategy<Value = Limits> {
    any::<(u32, u64, u64, u64)>().prop_map(|(frame, object, objects, push)| Limits {
        frame_len_max: frame,
        object_len_max: object,
        push_objects_max: objects,
        push_len_max: push,
    })
}

fn extensions() -> impl Strategy<Value = Extensions> {
    vec((any::<u16>(), vec(any::<u8>(), 0..20)), 0..4).prop_map(|entries| {
        let mut extensions = Extensions::default();
        for (tag, value) in entries {
            extensions.set(tag, value);
        }
        extensions
    })
}

fn announcement() -> impl Strategy<Value = Frame> {
    let announce = (
        any::<u32>(),
        vec(ref_update(), 0..5),
        vec((ref_name(), checksum()), 0..3),
        any::<bool>(),
        extensions(),
    )
        .prop_map(|(options, refs, bases, more, extensions)| {
            Frame::Announce(Announce {
                options: PushOptions(options),
                refs,
                bases: bases
                    .into_iter()
                    .map(|(name, commit)| Base { name, commit })
                    .collect(),
                more,
                extensions,
            })
        });
    let status = (
        vec((option::of(checksum()), verdict()), 0..5),
        vec(checksum(), 0..4),
    )
        .prop_map(|(states, complete)| {
            let refs = states
                .into_iter()
                .map(|(current, verdict)| RefState { current, verdict })
                .collect();
            Frame::RefStatus(RefStatus { refs, complete })
        });
    prop_oneof![announce, status]
}

fn ref_update() -> impl Strategy<Value = RefUpdate> {
    let expect = prop_oneof![
        Just(Expect::Any),
        Just(Expect::Absent),
        checksum().prop_map(Expect::Is)
    ];
    (ref_name(), checksum(), option::of(checksum()), expect).prop_map(
        |(name, commit, detached, expect)| RefUpdate {
            name,
            commit,
            detached,
            expect,
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::UpToDate),
        Just(Verdict::Accepted),
        refusal().prop_map(Verdict::Refused)
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<u16>(), text()).prop_map(|(code, text)| Refusal {
        code: RefusalCode(code),
        text,
    })
}

fn negotiation() -> impl Strategy<Value = Frame> {
    prop_oneof![
        vec(checksum(), 0..4).prop_map(|commits| Frame::Basis(Basis { commits })),
        vec(object_id(), 0..20).prop_map(|ids| Frame::Offer(Offer { ids })),
        vec(any::<bool>(), 0..40).prop_map(|wanted| Frame::Want(Want { wanted })),
        (checksum(), stored())
            .prop_map(|(commit, metadata)| Frame::Detached(Detached { commit, metadata })),
    ]
}

fn object_stream() -> impl Strategy<Value = Frame> {
    prop_oneof![
        vec((object_id(), stored()), 1..5).prop_map(|objects| Frame::Pack(Pack { objects })),
        (any::<u8>(), object_id())
            .prop_map(|(stream, id)| Frame::ObjectBegin(ObjectBegin { stream, id })),
        (any::<u8>(), vec(any::<u8>(), 1..60)).prop_map(|(stream, bytes)| {
            let bytes = bytes.into();
            Frame::ObjectChunk(ObjectChunk { stream, bytes })
        }),
        any::<u8>().prop_map(|stream| Frame::ObjectEnd(ObjectEnd { stream })),
        any::<(u64, u64)>().prop_map(|(objects, bytes)| Frame::Staged(Staged { objects, bytes })),
    ]
}

fn stored() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..60).prop_map(Bytes::from)
}

fn closing() -> impl Strategy<Value = Frame> {
    let outcome = prop_oneof![
        Just(RefOutcome::Updated),
        Just(RefOutcome::Unchanged),
        Just(RefOutcome::WouldUpdate),
        refusal().prop_map(RefOutcome::Refused)
    ];
    prop_oneof![
        Just(Frame::Finalize(Finalize {})),
        vec(object_id(), 0..5).prop_map(|ids| Frame::Missing(Missing { ids })),
        vec(outcome, 0..5).prop_map(|refs| Frame::Finalized(Finalized { refs })),
        Just(Frame::SummaryDone(SummaryDone::Current)),
        text().prop_map(|why| Frame::SummaryDone(SummaryDone::Failed(why))),
        Just(Frame::Ping(Ping {})),
        (any::<u16>(), text()).prop_map(|(code, text)| {
            let code = CloseCode(code);
            Frame::Close(Close { code, text })
        }),
    ]
}

fn pull() -> impl Strategy<Value = Frame> {
    let wanted = (ref_name(), option::of(checksum()), option::of(checksum()));
    let wanted = wanted.prop_map(|(name, current, detached)| RefRequest {
        name,
        current,
        detached,
    });
    let request = (
        any::<(u32, u32, bool)>(),
        vec(wanted, 0..4),
        vec(pattern(), 0..4),
        vec(checksum(), 0..4),
        extensions(),
    )
        .prop_map(
            |((options, history, more), refs, patterns, held, extensions)| {
                Frame::Request(Request {
                    options: PullOptions(options),
                    history,
                    refs,
                    patterns,
                    held,
                    more,
                    extensions,
                })
            },
        );
    let prefix = any::<[u8; 8]>().prop_map(Prefix::new);
    let held = (any::<bool>(), vec(prefix, 1..9))
        .prop_map(|(more, objects)| Frame::Held(Held { more, objects }));
    let state = prop_oneof![
        (checksum(), option::of(checksum()))
            .prop_map(|(commit, detached)| PullState::Promised { commit, detached }),
        Just(PullState::UpToDate),
        refusal().prop_map(PullState::Refused),
    ];
    let answered = (ref_name(), state).prop_map(|(name, state)| RefAnswer { name, state });
    let answer = (vec(answered, 0..4), vec(checksum(), 0..4), any::<bool>())
        .prop_map(|(refs, basis, more)| Frame::Answer(Answer { refs, basis, more }));
    prop_oneof![
        request,
        held,
        answer,
        any::<(u64, u64)>().prop_map(|(objects, bytes)| Frame::Extent(Extent { objects, bytes })),
        any::<(u64, u64)>().prop_map(|(objects, bytes)| Frame::Sent(Sent { objects, bytes })),
    ]
}

fn pattern() -> impl Strategy<Value = RefPattern> {
    let component = prop_oneof![Just("**".to_owned()), "[0-9A-Z_a-z][-.0-9A-Z_a-z]{0,5}\\*?"];
    let pattern = |components: Vec<String>| components.join("/").parse().ok();
    vec(component, 1..4).prop_filter_map("it is no pattern", pattern)
}
