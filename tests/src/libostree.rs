//! Our parsers against libostree's own validators: libostree accepts what we accept, and what only
//! libostree accepts breaks a rule on a list.

use artifact_formats::{
    Commit, Dirmeta, Dirtree, FileHeader, FormatError, NameError, ObjectId, ObjectKind, RefName,
    Summary,
};
use artifact_models::props::container;
use artifact_models::props::draw::Draw;
use artifact_store::verify::{Rejection, Scratch, verify};
use ostree::gio::{Cancellable, MemoryInputStream};
use ostree::glib::{self, Bytes, Variant, VariantTy};

/// The claim: libostree accepts every commit, dirtree, dirmeta, summary, ref name and stored file
/// (the first byte chooses) that we accept; one that only libostree accepts breaks a rule that is
/// stricter on purpose.
pub fn libostree_takes_what_we_take(input: &[u8]) {
    let Some((which, input)) = input.split_first() else {
        return;
    };
    match which % 6 {
        0 => {
            let ours = Commit::parse(input).map(drop);
            let kind = "(a{sv}aya(say)sstayay)";
            compare_variant(input, kind, ours, ostree::validate_structureof_commit);
        }
        1 => {
            let ours = Dirtree::parse(input).map(drop);
            let kind = "(a(say)a(sayay))";
            compare_variant(input, kind, ours, ostree::validate_structureof_dirtree);
        }
        2 => {
            let ours = Dirmeta::parse(input).map(drop);
            let kind = "(uuua(ayay))";
            compare_variant(input, kind, ours, ostree::validate_structureof_dirmeta);
        }
        3 => {
            let ours = Summary::parse(input).map(drop);
            // libostree has no validator for it except the type.
            compare_variant(input, "(a(s(taya{sv}))a{sv})", ours, |_| Ok(()));
        }
        4 => compare_ref_name(&String::from_utf8_lossy(input)),
        _ => compare_file(&container::file(&mut Draw::new(input))),
    }
}

fn compare_variant(
    input: &[u8],
    kind: &str,
    ours: Result<(), FormatError>,
    validate: impl Fn(&Variant) -> Result<(), glib::Error>,
) {
    let kind = VariantTy::new(kind).expect("a type");
    let variant = Variant::from_bytes_with_type(&Bytes::from(input), kind);
    let theirs = variant.is_normal_form() && validate(&variant).is_ok();
    must_be_stricter(theirs, ours.map_err(|error| error.rule()));
}

fn compare_ref_name(text: &str) {
    // In C, a text ends with its first NUL.
    let theirs = !text.contains('\0') && ostree::validate_rev(text).is_ok();
    let ours = text.parse::<RefName>().map(drop);
    let ours = ours.map_err(|error| match error {
        NameError::RefName { rule } => rule,
        other => unreachable!("{other}"),
    });
    must_be_stricter(theirs, ours);
}

fn compare_file(stored: &[u8]) {
    let Some((head, _)) = container::split_header(stored) else {
        return;
    };
    let ours = FileHeader::parse_archive(head).map(drop);
    compare_variant(&head[8..], HEADER, ours, |_| Ok(()));
    // The binding cannot tell that a link has no content.
    let kind = VariantTy::new(HEADER).expect("a type");
    let header = Variant::from_bytes_with_type(&Bytes::from(&head[8..]), kind);
    let mode = header.child_value(3).get::<u32>().map(u32::from_be);
    if mode.is_some_and(|mode| mode & 0o170_000 == 0o120_000) {
        return;
    }
    let (checksum, _) = container::plain_reading(ObjectKind::File, stored, LIMIT);
    let id = ObjectId::new(ObjectKind::File, checksum);
    let ours = verify(id, stored, LIMIT, &mut Scratch::default());
    let theirs = checksum_by_libostree(stored).is_some_and(|theirs| theirs == checksum.to_hex());
    let ours = ours.map(drop).map_err(|rejection| match rejection {
        Rejection::Container { rule } => rule,
        Rejection::Structure(error) => error.rule(),
        Rejection::TooLarge { .. } => "larger than the limit",
        other => unreachable!("{other}"),
    });
    must_be_stricter(theirs, ours);
}

/// Unpacks and hashes a stored file as libostree does for untrusted ones.
fn checksum_by_libostree(stored: &[u8]) -> Option<String> {
    let stream = MemoryInputStream::from_bytes(&Bytes::from(stored));
    let len = u64::try_from(stored.len()).expect("a usize is a u64");
    let none = Cancellable::NONE;
    let parsed = ostree::content_stream_parse(true, &stream, len, false, none);
    let (content, info, xattrs) = parsed.ok()?;
    let kind = ostree::ObjectType::File;
    let sum = ostree::checksum_file_from_input(&info, Some(&xattrs), Some(&content), kind, none);
    Some(sum.ok()?.to_string())
}

fn must_be_stricter(theirs: bool, ours: Result<(), &'static str>) {
    match ours {
        Ok(()) => assert!(theirs, "we take what libostree refuses"),
        Err(rule) => assert!(
            !theirs || STRICTER.contains(&rule),
            "not on the list: {rule}"
        ),
    }
}

/// The header of a stored file.
const HEADER: &str = "(tuuuusa(ayay))";

const LIMIT: u64 = 1 << 20;

/// Our rules that libostree does not have.
const STRICTER: &[&str] = &[
    // One value, one serialization: GLib accepts framing offsets of any width.
    "a tuple's framing offsets are wider than needed, or cut",
    "an array's framing offsets are wider than needed, or cut",
    // Bounds on the reader's effort.
    "containers are nested deeper than 16",
    "a type is longer than 255 bytes",
    "a variant does not say its type within 255 bytes",
    "it is longer than 256 KiB",
    "larger than the limit",
    // The container: pulls fail with these, although `ostree fsck` accepts them.
    "padding is not zero",
    "bytes follow its end",
    "its content is longer than its header says",
    "its content is shorter than its header says",
    "its content takes up more than any compressor needs",
    // No writer makes these, and readers interpret them differently.
    "a key is empty",
    "a key occurs twice",
    "a binding has the wrong type",
    "a name is both a file and a directory",
    "a name is empty",
    "a name is longer than 255 bytes",
    "names are not sorted, or one occurs twice",
    "refs are not sorted, or one occurs twice or has no name",
    "a commit's checksum is not 32 bytes",
    "a static delta has no SHA-256",
    "a regular file has a target",
    "a symbolic link has content",
    "a symbolic link has no target",
    "the target of a symbolic link is longer than 4095 bytes",
    "the device number is not 0",
    "the mode is not a directory's, or has bits outside of 07777",
    "the mode is not a regular file's or symbolic link's, or has unknown bits",
    "an extended attribute's name is empty",
    "an extended attribute's name does not end with NUL",
    "an extended attribute's name contains a NUL",
    "extended attributes are not sorted by name, or one occurs twice",
    // Names that are valid in file names and URLs everywhere (SPEC "Ref names").
    "a component between slashes is longer than 200 bytes",
    "a component must begin with a letter, a digit or an underscore",
    "components that begin with 'tmp.' are libostree's leftovers",
    "it is longer than 1024 bytes",
    "it has more than 16 components between slashes",
    "it consists of the digits 0-9 and a-f alone, which ostree takes for an abbreviated checksum; \
     give it another name, with `ostree refs --create=NEW OLD`",
    "only ASCII letters, digits, '-', '.', '_' and '/' may be used",
];
