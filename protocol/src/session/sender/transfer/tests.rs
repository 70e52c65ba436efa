use super::super::super::outputs::Outputs;
use super::super::SenderOutput;
use super::super::streams::STREAMS;
use super::*;
use crate::limits::Limits;
use artifact_formats::{Checksum, ObjectKind};

#[test]
fn a_source_has_few_large_objects_open_at_once_however_many_are_wanted() {
    let mut core = Core {
        announcement: Default::default(),
        limits: Limits::default(),
        outputs: Outputs::new(),
        frames: 0,
        is_unsettled: false,
    };
    let mut transfer = Transfer::new();
    transfer.wanted = (0..200)
        .map(|number| ObjectId::new(ObjectKind::File, Checksum::new([number; 32])))
        .collect();
    let mut state = transfer.go_on(&mut core);
    let (mut open, mut most_open, mut sent) = (0, 0, 0);
    while let Some(output) = core.outputs.pop() {
        let SenderOutput::Source(request) = output else {
            continue;
        };
        let State::Transfer(transfer) = state else {
            panic!("the offers are not exhausted");
        };
        let outcome = match &request.op {
            SourceOp::Fetch(ids) => {
                open += ids.len();
                SourceOutcome::Fetched(ids.iter().map(|_| Fetched::Large(None)).collect())
            }
            SourceOp::Next(_) => {
                open -= 1;
                sent += 1;
                SourceOutcome::Piece {
                    bytes: Bytes::new(),
                    last: true,
                }
            }
            SourceOp::Offer { .. }
            | SourceOp::Plan(_)
            | SourceOp::Descends(_)
            | SourceOp::Vouch(_) => {
                state = State::Transfer(transfer);
                continue;
            }
        };
        most_open = most_open.max(open);
        state = transfer
            .handle_source(request.op, outcome, &mut core)
            .unwrap();
    }
    assert_eq!((sent, open), (200, 0));
    assert!(most_open <= FETCHES * FETCH_IDS + STREAMS, "{most_open}");
}
