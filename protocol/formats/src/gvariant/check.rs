//! Checks values of any type, as they occur in the metadata of commits.

use crate::error::FormatError;
use crate::gvariant::frame::{WRONG_LEN, split_tuple};
use crate::gvariant::{Layout, split_array, split_members, string};
use crate::limits::MAX_VARIANT_DEPTH;

/// Checks that `data` is the only serialization of a value of type `kind`, such as `a{sv}`.
///
/// At least as strict as GLib's `g_variant_is_normal_form`; takes time linear in the length.
pub(crate) fn check(kind: &str, data: &[u8]) -> Result<(), FormatError> {
    Type::parse(kind.as_bytes(), 0)
        .and_then(|kind| kind.check(data, 0))
        .map_err(|rule| FormatError::new("variant", rule))
}

/// Checks a variant, and returns the type of its value (as text) and the value's bytes. The
/// variant's content lies `depth` containers deep.
fn check_variant(data: &[u8], depth: usize) -> Result<(&[u8], &[u8]), &'static str> {
    // Searches no further than a type is long, so that nested variants cost no more.
    let tail = data.len().saturating_sub(MAX_TYPE_LEN + 1);
    let separator = data
        .iter()
        .skip(tail)
        .rposition(|byte| *byte == 0)
        .ok_or("a variant does not say its type within 255 bytes")?;
    let (value, kind) = data.split_at(tail + separator);
    let kind = kind.strip_prefix(b"\0").unwrap_or_default();
    Type::parse(kind, depth)?.check(value, depth)?;
    Ok((kind, value))
}

/// Checks an `a{sv}`, and passes each key, the type of its value and the value to `take`.
pub(crate) fn for_each_entry<'a>(
    data: &'a [u8],
    mut take: impl FnMut(&'a str, &'a [u8], &'a [u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    for element in split_array(Layout::ALIGNED, data)?.iter() {
        let [key, value] = split_members([Layout::BYTES, Layout::ALIGNED], element)?;
        let key = string(key)?;
        if key.is_empty() {
            return Err("a key is empty");
        }
        let (kind, value) = check_variant(value, 0)?;
        take(key, kind, value)?;
    }
    Ok(())
}

/// The longest type inside a variant, in bytes. D-Bus bounds a signature alike.
const MAX_TYPE_LEN: usize = 255;

/// A type, parsed once, so that checking each element of an array takes time linear in the element.
struct Type {
    layout: Layout,
    form: Form,
}

enum Form {
    /// Numbers: any value of the right length is valid.
    Number,
    Bool,
    String,
    ObjectPath,
    Signature,
    Variant,
    Maybe(Box<Type>),
    Array(Box<Type>),
    /// Also dictionary entries.
    Tuple(Vec<Type>),
}

impl Type {
    /// Parses one complete type, which lies `depth` containers deep.
    fn parse(text: &[u8], depth: usize) -> Result<Self, &'static str> {
        if text.len() > MAX_TYPE_LEN {
            return Err("a type is longer than 255 bytes");
        }
        match Self::parse_first(text, depth)? {
            (kind, []) => Ok(kind),
            _ => Err("more than one type where one is expected"),
        }
    }

    /// Parses the first complete type, and returns the rest.
    fn parse_first(text: &[u8], depth: usize) -> Result<(Self, &[u8]), &'static str> {
        let (first, rest) = text.split_first().ok_or("a type is cut off")?;
        let (layout, form) = match first {
            b'b' => (Layout::BYTE, Form::Bool),
            b'y' => (Layout::BYTE, Form::Number),
            b'n' | b'q' => (Layout::scalar(2), Form::Number),
            b'u' | b'i' | b'h' => (Layout::U32, Form::Number),
            b't' | b'x' | b'd' => (Layout::U64, Form::Number),
            b's' => (Layout::BYTES, Form::String),
            b'o' => (Layout::BYTES, Form::ObjectPath),
            b'g' => (Layout::BYTES, Form::Signature),
            b'v' => {
                deeper(depth)?;
                (Layout::ALIGNED, Form::Variant)
            }
            b'a' | b'm' => {
                let (inner, rest) = Self::parse_first(rest, deeper(depth)?)?;
                let layout = Layout::variable(inner.layout.align);
                let inner = Box::new(inner);
                let form = if *first == b'a' {
                    Form::Array(inner)
                } else {
                    Form::Maybe(inner)
                };
                return Ok((Self { layout, form }, rest));
            }
            b'(' => return Self::parse_members(rest, deeper(depth)?, b')'),
            b'{' => {
                if !rest
                    .first()
                    .is_some_and(|key| b"ybnqiuxthdsog".contains(key))
                {
                    return Err("a dictionary's key is not of a basic type");
                }
                return Self::parse_members(rest, deeper(depth)?, b'}');
            }
            _ => return Err("an unknown character in a type"),
        };
        Ok((Self { layout, form }, rest))
    }

    /// Parses types up to `close`, and returns the rest.
    fn parse_members(
        mut rest: &[u8],
        depth: usize,
        close: u8,
    ) -> Result<(Self, &[u8]), &'static str> {
        let mut members = Vec::new();
        while rest.first() != Some(&close) {
            let (member, after) = Self::parse_first(rest, depth)?;
            members.push(member);
            rest = after;
        }
        if close == b'}' && members.len() != 2 {
            return Err("a dictionary entry is not a key and a value");
        }
        let layout = Layout::of_tuple(members.iter().map(|member| member.layout));
        let form = Form::Tuple(members);
        Ok((Self { layout, form }, rest.get(1..).unwrap_or_default()))
    }

    /// Checks a value of this type, which lies `depth` containers deep.
    fn check(&self, data: &[u8], depth: usize) -> Result<(), &'static str> {
        if self.layout.fixed.is_some_and(|len| len != data.len()) {
            return Err(WRONG_LEN);
        }
        match &self.form {
            Form::Number => Ok(()),
            Form::Bool => match data {
                [0 | 1] => Ok(()),
                _ => Err("a boolean is neither 0 nor 1"),
            },
            Form::String => string(data).map(|_| ()),
            Form::ObjectPath => check_object_path(string(data)?),
            Form::Signature => check_signature(string(data)?),
            Form::Variant => check_variant(data, deeper(depth)?).map(|_| ()),
            Form::Maybe(_) if data.is_empty() => Ok(()),
            Form::Maybe(inner) if inner.layout.fixed.is_some() => inner.check(data, depth + 1),
            Form::Maybe(inner) => match data.split_last() {
                Some((0, value)) => inner.check(value, depth + 1),
                _ => Err("a present maybe does not end with zero"),
            },
            Form::Array(element) => {
                let array = split_array(element.layout, data)?;
                if matches!(element.form, Form::Number) {
                    return Ok(());
                }
                array
                    .iter()
                    .try_for_each(|value| element.check(value, depth + 1))
            }
            Form::Tuple(members) => {
                let layouts = members.iter().map(|member| member.layout);
                let mut members = members.iter();
                split_tuple(layouts, data, |value| match members.next() {
                    Some(member) => member.check(value, depth + 1),
                    None => Ok(()),
                })
            }
        }
    }
}

/// Returns the depth inside a container that lies `depth` deep. Keeps LIM-14.
fn deeper(depth: usize) -> Result<usize, &'static str> {
    if depth < MAX_VARIANT_DEPTH {
        Ok(depth + 1)
    } else {
        Err("containers are nested deeper than 16")
    }
}

/// `/`, or components of `[A-Za-z0-9_]`, each after a slash.
fn check_object_path(path: &str) -> Result<(), &'static str> {
    let good = |component: &str| {
        !component.is_empty()
            && component
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match path.strip_prefix('/') {
        Some("") => Ok(()),
        Some(rest) if rest.split('/').all(good) => Ok(()),
        _ => Err("not an object path"),
    }
}

/// Complete types in sequence, without maybes, which D-Bus does not have.
fn check_signature(signature: &str) -> Result<(), &'static str> {
    let mut rest = signature.as_bytes();
    if rest.len() > MAX_TYPE_LEN || rest.contains(&b'm') {
        return Err("not a signature");
    }
    while !rest.is_empty() {
        (_, rest) = Type::parse_first(rest, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
