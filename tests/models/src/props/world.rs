//! The small repository that the drawn sessions work on.

use std::sync::LazyLock;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{Expect, PushOptions, RefUpdate};
use artifact_protocol::session::Announcement;
use bytes::Bytes;

use crate::model::Repository;
use crate::props::draw::Draw;

/// A file and a directory that two of three commits share, small and large objects, detached
/// metadata on one commit.
pub(super) static WORLD: LazyLock<Repository> = LazyLock::new(|| {
    let mut world = Repository::default();
    let shared = world.add_file(b"shared");
    let large = world.add_file(&[b'x'; 700]);
    let below = world.add(ObjectKind::Dirtree, &[shared, large], b"below");
    world.add_commit("p/e/0", &[below, shared]);
    let own = world.add_file(b"own");
    let signed = world.add_commit("p/e/1", &[below, own]);
    world
        .detached
        .insert(signed, Bytes::from_static(b"signature"));
    let forbidden = world.add_file(b"forbidden");
    world.add_commit("forbidden/2", &[forbidden]);
    world
});

/// Draws what a server may hold already: nothing, or one of the commits.
pub(super) fn draw_part(draw: &mut Draw<'_>) -> Repository {
    let mut part = Repository::default();
    let which = draw.below(WORLD.refs.len() + 1);
    if let Some((name, commit)) = which
        .checked_sub(1)
        .and_then(|at| WORLD.refs.iter().nth(at))
    {
        let (here, _) = WORLD.closure(crate::model::commit_id(*commit));
        part.objects = here
            .iter()
            .map(|id| (*id, WORLD.objects[id].clone()))
            .collect();
        part.refs.insert(name.clone(), *commit);
    }
    part
}

/// Draws an announcement of at least one ref, usually an existing one.
pub(super) fn draw_announcement(draw: &mut Draw<'_>) -> Announcement {
    let mut refs = Vec::new();
    for (name, commit) in &WORLD.refs {
        if draw.once_in(4) {
            continue;
        }
        let detached = WORLD
            .detached
            .get(commit)
            .map(|metadata| Checksum::of(metadata));
        let expect = match draw.below(8) {
            6 => Expect::Absent,
            7 => Expect::Is(*draw.pick(&WORLD.refs.values().copied().collect::<Vec<_>>())),
            _ => Expect::Any,
        };
        refs.push(RefUpdate {
            name: name.clone(),
            commit: *commit,
            detached: detached.filter(|_| !draw.once_in(4)),
            expect,
        });
    }
    let options = match draw.below(8) {
        6 => PushOptions::FORCE,
        7 => PushOptions::DRY_RUN,
        _ => PushOptions::default(),
    };
    Announcement {
        options,
        refs,
        bases: Vec::new(),
        history: 0,
    }
}

/// Draws an id, usually one of the world's.
pub(super) fn draw_id(draw: &mut Draw<'_>) -> ObjectId {
    let which = draw.below(WORLD.objects.len() + 1);
    let id = WORLD.objects.keys().nth(which).copied();
    id.unwrap_or(ObjectId::new(ObjectKind::File, Checksum::new([7; 32])))
}
