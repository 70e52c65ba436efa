//! Every claim about hostile input, by the name of its fuzz target.

use artifact_models::props::{
    container, dialects, frames, objects, pull, pull_client, pull_server, push, receiver, sender,
    text,
};

use crate::libostree;

/// A claim, by the name of its fuzz target.
pub type Claim = (&'static str, fn(&[u8]));

/// All claims.
pub const CLAIMS: [Claim; 17] = [
    ("frame", frames::a_frame_has_one_spelling),
    ("message", frames::a_message_has_one_spelling),
    ("object", objects::an_object_has_one_spelling),
    (
        "repository_file",
        objects::a_repositorys_files_are_read_or_refused,
    ),
    (
        "container",
        container::an_object_is_judged_alike_in_any_pieces,
    ),
    ("text", text::text_of_a_stranger_is_harmless),
    (
        "receiver_bytes",
        receiver::a_receiver_session_withstands_any_bytes,
    ),
    (
        "receiver_session",
        receiver::a_receiver_session_withstands_any_client,
    ),
    (
        "sender_session",
        sender::a_sender_session_withstands_any_server,
    ),
    ("libostree", libostree::libostree_takes_what_we_take),
    (
        "old_message",
        dialects::an_old_message_is_read_alike_in_either_order,
    ),
    (
        "old_receiver",
        dialects::an_old_receiver_session_withstands_any_bytes,
    ),
    (
        "old_push",
        push::an_old_push_in_any_weather_leaves_every_ref_old_or_new,
    ),
    (
        "push",
        push::a_push_in_any_weather_leaves_every_ref_old_or_new,
    ),
    (
        "pull",
        pull::a_pull_in_any_weather_leaves_every_ref_old_or_the_servers,
    ),
    (
        "pull_client",
        pull_client::a_pull_client_withstands_any_server,
    ),
    (
        "pull_server",
        pull_server::a_pull_server_withstands_any_client,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn every_claim_holds_of_any_bytes(noise in prop::collection::vec(any::<u8>(), 0..400)) {
            for (_, claim) in CLAIMS {
                claim(&noise);
            }
        }
    }
}
