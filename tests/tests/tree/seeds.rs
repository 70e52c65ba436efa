//! The seeds of the fuzz targets, and the inputs that once failed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use artifact_tests::claims::CLAIMS;

#[test]
fn every_seed_of_every_fuzz_target_is_withstood() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for (target, claim) in CLAIMS {
        let seeds = fs::read_dir(fuzz.join("seeds").join(target)).unwrap();
        let seeds: Vec<_> = seeds.map(|entry| entry.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "{target} has no seed");
        for seed in seeds {
            // Printed by the runner when the claim fails.
            println!("{}", seed.display());
            claim(&fs::read(seed).unwrap());
        }
    }
}

#[test]
fn every_claim_has_its_fuzz_target_and_every_target_its_claim() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path();
        entries
            .map(|entry| {
                name(entry)
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let claims: BTreeSet<String> = CLAIMS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), claims);
    assert_eq!(names("seeds"), claims);
}
