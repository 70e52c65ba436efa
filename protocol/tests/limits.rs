//! The numbers of SPEC "Limits" equal those of `limits.rs`.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use artifact_formats::limits as formats;
use artifact_protocol::limits::{self, Limits};

/// Reads `64 KiB`, `1 MiB + 1 KiB` or `10,000`.
fn number(text: &str) -> u64 {
    let term = |term: &str| {
        let (digits, unit) = term.trim().split_once(' ').unwrap_or((term.trim(), ""));
        let unit = match unit {
            "" => 1,
            "KiB" => 1024,
            "MiB" => 1024 * 1024,
            "GiB" => 1024 * 1024 * 1024,
            "TiB" => 1024 * 1024 * 1024 * 1024,
            _ => unreachable!("{text:?} has an unknown unit"),
        };
        digits.replace(',', "").parse::<u64>().unwrap() * unit
    };
    text.split('+').map(term).sum()
}

#[test]
fn every_limit_has_the_number_that_the_spec_says() {
    let spec = include_str!("../SPEC.md");
    // The limit that is a formula is tested below.
    let rows = spec.lines().filter(|line| line.starts_with("| LIM-"));
    let rows = rows.filter(|line| !line.starts_with("| LIM-25 "));
    let said: Vec<(String, u64)> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let name = cells[2].trim_matches('`').to_owned();
            (name, number(cells[3]))
        })
        .collect();
    let meant: [(&str, u64); 30] = [
        ("MAX_EARLY_FRAME_LEN", limits::MAX_EARLY_FRAME_LEN.into()),
        ("MIN_FRAME_LEN_MAX", limits::MIN_FRAME_LEN_MAX.into()),
        ("MAX_FRAME_LEN_MAX", limits::MAX_FRAME_LEN_MAX.into()),
        ("MAX_REFS", limits::MAX_REFS as u64),
        ("MAX_BASES", limits::MAX_BASES as u64),
        ("MAX_OFFER_IDS", limits::MAX_OFFER_IDS as u64),
        ("MAX_UNSETTLED_IDS", limits::MAX_UNSETTLED_IDS as u64),
        ("MAX_OPEN_STREAMS", limits::MAX_OPEN_STREAMS as u64),
        ("MAX_METADATA_LEN", formats::MAX_METADATA_LEN as u64),
        ("MAX_DETACHED_LEN", formats::MAX_DETACHED_LEN as u64),
        ("MAX_FILE_HEADER_LEN", formats::MAX_FILE_HEADER_LEN as u64),
        ("MAX_SYMLINK_LEN", formats::MAX_SYMLINK_LEN as u64),
        ("MAX_FILE_NAME_LEN", formats::MAX_FILE_NAME_LEN as u64),
        ("MAX_VARIANT_DEPTH", formats::MAX_VARIANT_DEPTH as u64),
        ("MAX_REF_LEN", formats::MAX_REF_LEN as u64),
        (
            "MAX_REF_COMPONENT_LEN",
            formats::MAX_REF_COMPONENT_LEN as u64,
        ),
        ("MAX_TEXT_LEN", limits::MAX_TEXT_LEN as u64),
        ("MAX_EXTENSIONS_LEN", limits::MAX_EXTENSIONS_LEN as u64),
        ("MAX_FINALIZE_ROUNDS", limits::MAX_FINALIZE_ROUNDS.into()),
        ("MAX_MISSING_IDS", limits::MAX_MISSING_IDS as u64),
        ("MAX_TREE_DEPTH", formats::MAX_TREE_DEPTH as u64),
        ("MAX_HISTORY_LEN", formats::MAX_HISTORY_LEN as u64),
        ("MAX_COMPLETE", limits::MAX_COMPLETE as u64),
        ("MAX_REF_COMPONENTS", formats::MAX_REF_COMPONENTS as u64),
        ("MAX_PATTERNS", limits::MAX_PATTERNS as u64),
        ("MAX_HELD", limits::MAX_HELD as u64),
        ("MAX_LEASE_SECS", limits::MAX_LEASE_SECS),
        ("MAX_BUCKET_PUSH_SECS", limits::MAX_BUCKET_PUSH_SECS),
        ("MAX_HELD_BACK_LEN", limits::MAX_HELD_BACK_LEN as u64),
        ("MAX_BUCKET_REF_LEN", limits::MAX_BUCKET_REF_LEN as u64),
    ];
    assert_eq!(said, meant.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn the_announced_limits_have_the_defaults_that_the_spec_says() {
    let spec = include_str!("../SPEC.md");
    let Limits {
        frame_len_max,
        object_len_max,
        push_objects_max,
        push_len_max,
    } = Limits::default();
    assert_eq!(
        [
            frame_len_max.into(),
            object_len_max,
            push_objects_max,
            push_len_max
        ],
        [
            number("2 MiB"),
            number("64 GiB"),
            number("10,000,000"),
            number("1 TiB")
        ]
    );
    let sentence = "The defaults of the announced limits are 2 MiB a frame, 64 GiB an object, \
                    10,000,000 objects and 1 TiB a push.";
    assert!(spec.contains(sentence));
}

#[test]
fn a_deflate_stream_may_be_as_long_as_the_formula_of_the_spec_says() {
    let spec = include_str!("../SPEC.md");
    assert!(spec.contains("| LIM-25 | `max_deflated_len` | n + n/8 + n/64 + 64 |"));
    for n in [0, 1, 7, 8, 63, 64, 1_000_003] {
        let said = n + n / 8 + n / 64 + 64;
        assert_eq!(artifact_formats::limits::max_deflated_len(n), said);
    }
}
