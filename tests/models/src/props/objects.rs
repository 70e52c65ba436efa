//! Objects and the files of a repository: writing what was read gives the same.

use std::path::{Component, Path};

use artifact_formats::{
    Attributes, Commit, Dirmeta, Dirtree, FileHeader, RepoConfig, Summary, check_detached,
};

/// The claim: serializing an accepted object gives the same bytes if the parser keeps all of it,
/// and otherwise bytes with the same meaning.
pub fn an_object_has_one_spelling(input: &[u8]) {
    if let Ok(tree) = Dirtree::parse(input) {
        assert_eq!(Dirtree::serialize(tree.files(), tree.dirs()), input);
        let names = tree.files().map(|(name, _)| name);
        for name in names.chain(tree.dirs().map(|(name, _, _)| name)) {
            let mut components = Path::new(name).components();
            let first = components.next();
            assert!(
                matches!(first, Some(Component::Normal(plain)) if plain == name),
                "{name:?}"
            );
            assert!(components.next().is_none() && !name.contains(['/', '\0']));
        }
    }
    if let Ok(meta) = Dirmeta::parse(input) {
        assert_eq!(meta.serialize(), input);
    }
    if let Ok(attributes) = Attributes::parse(input) {
        assert_eq!(attributes.serialize(), input);
    }
    if let Ok(commit) = Commit::parse(input) {
        // Serializing leaves out unknown values.
        let again = Commit::parse(&commit.serialize());
        assert_eq!(again.expect("what is written can be read"), commit);
    }
    if let Ok((header, size)) = FileHeader::parse_archive(input) {
        assert_eq!(header.to_archive(size), input);
        assert_eq!(FileHeader::archive_bytes_needed(input).ok(), Some(0));
    }
    // Detached metadata is passed on unchanged.
    let _ = check_detached(input);
}

/// The claim: a parsed summary means the same after it is serialized; a `config` is parsed or
/// refused, and a line of another group does not affect it.
pub fn a_repositorys_files_are_read_or_refused(input: &[u8]) {
    if let Ok(summary) = Summary::parse(input) {
        let again = Summary::parse(&summary.serialize());
        assert_eq!(again.expect("what is written can be read"), summary);
    }
    if let Ok(text) = str::from_utf8(input)
        && let Ok(config) = RepoConfig::parse(text)
    {
        let more = format!("{text}\n[remote \"x\"]\nmode=nonsense\nrepo_version=7\n");
        assert_eq!(RepoConfig::parse(&more), Ok(config));
    }
}
