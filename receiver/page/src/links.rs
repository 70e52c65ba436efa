//! The path of each page, and the links between pages.
//!
//! All links are relative, so that the site may begin anywhere: at the root of a server, below a
//! path of another site, or in a directory of files. A name between slashes never begins with `-`:
//! such components are ours.

/// How the pages are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// By a server, which understands `?page=2` and can search.
    Server,
    /// As files: each link names one.
    Files,
}

/// The subject of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All projects, and the cache as a whole.
    Home,
    /// The elements of a project; the empty name stands for refs without a slash.
    Project(String),
    /// The keys of an element of a project; either name may be empty.
    Element(String, String),
    /// The results of a search.
    Search(String),
    /// A missing page, so many directories below the first page.
    Missing(usize),
}

/// One of the pages of a place, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) place: Place,
    pub(crate) page: usize,
}

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A page of ours, whose subject may not exist.
    Page(At),
    /// The same with a trailing slash; the text is the link to it.
    Moved(String),
    /// A path under which no page can exist.
    Nowhere,
}

impl Place {
    /// Returns how many directories this page is below the first page.
    fn depth(&self) -> usize {
        match self {
            Self::Home | Self::Search(_) => 0,
            Self::Missing(depth) => *depth,
            Self::Project(_) => 2,
            Self::Element(_, element) => 2 + element.split('/').count(),
        }
    }

    fn components(&self) -> Vec<&str> {
        match self {
            Self::Home | Self::Search(_) | Self::Missing(_) => Vec::new(),
            Self::Project(project) => vec![project.as_str()],
            Self::Element(project, element) => std::iter::once(project.as_str())
                .chain(element.split('/'))
                .collect(),
        }
    }

    /// Returns the place of a missing page, from the path of the request.
    pub(crate) fn missing(path: &str) -> Self {
        Self::Missing(path.matches('/').count().saturating_sub(1))
    }

    /// Returns this place's first page.
    pub(crate) fn first(self) -> At {
        At {
            place: self,
            page: 1,
        }
    }
}

impl At {
    /// Returns the link from a page of this place to another.
    pub(crate) fn link(&self, layout: Layout, to: &Self) -> String {
        let up = "../".repeat(self.place.depth());
        let link = match layout {
            Layout::Server => up + &to.address(),
            Layout::Files => up + &encoded(&to.file()),
        };
        if link.is_empty() {
            "./".to_owned()
        } else {
            link
        }
    }

    /// Returns the address relative to the first page.
    fn address(&self) -> String {
        let mut address = match &self.place {
            Place::Search(_) => "search".to_owned(),
            Place::Home | Place::Project(_) | Place::Element(..) | Place::Missing(_) => {
                String::new()
            }
        };
        let components = self.place.components();
        if !components.is_empty() {
            address.push_str("p/");
        }
        for component in components {
            address.push_str(&encoded(or_dash(component)));
            address.push('/');
        }
        let mut fields = Vec::new();
        if let Place::Search(wanted) = &self.place {
            fields.push(format!("q={}", encoded_field(wanted)));
        }
        if self.page > 1 {
            fields.push(format!("page={}", self.page));
        }
        if !fields.is_empty() {
            address.push('?');
            address.push_str(&fields.join("&"));
        }
        address
    }

    /// Returns the file's path relative to the first page's.
    pub(crate) fn file(&self) -> String {
        let mut path = String::new();
        let components = self.place.components();
        if !components.is_empty() {
            path.push_str("p/");
        }
        for component in components {
            // A directory must not take the name of the first page's file.
            let escape = if component == INDEX { "-" } else { "" };
            path.push_str(escape);
            path.push_str(or_dash(component));
            path.push('/');
        }
        match self.page {
            0 | 1 => path.push_str(INDEX),
            page => path.push_str(&format!("-{page}.html")),
        }
        path
    }
}

/// Returns the page that a request asks for; `None` if it is not ours. `path` and `query` are still
/// encoded.
pub(crate) fn asked(path: &str, query: Option<&str>) -> Option<Asked> {
    let field = |name: &str| {
        let mut fields = query.unwrap_or_default().split('&');
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let page = match field("page") {
        None => 1,
        Some(digits) => match digits.parse() {
            Ok(page) if page > 0 => page,
            _ => return is_ours(path).then_some(Asked::Nowhere),
        },
    };
    let place = match path {
        "/" => Place::Home,
        "/search" => {
            let wanted = decoded(&field("q").unwrap_or_default().replace('+', " "));
            Place::Search(cut(&wanted.unwrap_or_default(), MAX_QUERY_LEN).to_owned())
        }
        _ => {
            let names = path.strip_prefix("/p/")?;
            let Some(names) = names.strip_suffix('/') else {
                let last = names.rsplit('/').next().unwrap_or_default();
                return Some(match decoded(last) {
                    Some(last) if !last.is_empty() => Asked::Moved(format!("{}/", encoded(&last))),
                    _ => Asked::Nowhere,
                });
            };
            match place_of(names) {
                Some(place) => place,
                None => return Some(Asked::Nowhere),
            }
        }
    };
    Some(Asked::Page(At { place, page }))
}

fn is_ours(path: &str) -> bool {
    matches!(path, "/" | "/search") || path.starts_with("/p/")
}

fn place_of(names: &str) -> Option<Place> {
    let mut components = Vec::new();
    for component in names.split('/') {
        let component = decoded(component)?;
        if component.is_empty() || component.contains('/') {
            return None;
        }
        components.push(component);
    }
    let (project, element) = components.split_first()?;
    let project = un_dash(project)?;
    Some(match element {
        [] => Place::Project(project),
        [only] => Place::Element(project, un_dash(only)?),
        many => Place::Element(project, many.join("/")),
    })
}

fn or_dash(name: &str) -> &str {
    if name.is_empty() { "-" } else { name }
}

fn un_dash(name: &str) -> Option<String> {
    match name {
        "-" => Some(String::new()),
        _ => (!name.starts_with('-')).then(|| name.to_owned()),
    }
}

/// Encodes text for a path.
pub(crate) fn encoded(text: &str) -> String {
    percent(text, "-._~/")
}

/// Encodes text for a field of a query.
fn encoded_field(text: &str) -> String {
    percent(text, "-._~")
}

fn percent(text: &str, plain: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || plain.contains(c) {
            written.push(c);
        } else {
            written.push_str(&format!("%{byte:02X}"));
        }
    }
    written
}

/// Decodes `%41` and the like; `None` if the result is not UTF-8, or a digit is missing.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

const INDEX: &str = "index.html";
/// Bytes of a search that count.
const MAX_QUERY_LEN: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_place() -> impl Strategy<Value = Place> {
        let name = "[a-zA-Z0-9_\u{e9}][a-zA-Z0-9_.\u{e9}-]{0,8}|index\\.html";
        let element = proptest::collection::vec(name, 0..4).prop_map(|names| names.join("/"));
        prop_oneof![
            Just(Place::Home),
            name.prop_map(Place::Project),
            Just(Place::Project(String::new())),
            (prop_oneof![Just(""), Just("p")], element)
                .prop_map(|(project, element)| Place::Element(project.to_owned(), element)),
            "\\PC{0,20}".prop_map(Place::Search),
        ]
    }

    /// Follows a link as a browser does.
    fn follow(from: &str, link: &str) -> String {
        let (link, query) = link.split_once('?').unwrap_or((link, ""));
        let mut path: Vec<&str> = from.split('/').collect();
        path.pop();
        for part in link.split('/') {
            match part {
                ".." => _ = path.pop(),
                "." => {}
                _ => path.push(part),
            }
        }
        let path = path.join("/").replace("//", "/");
        if query.is_empty() {
            path
        } else {
            format!("{path}?{query}")
        }
    }

    fn at(place: Place, page: usize) -> At {
        At { place, page }
    }

    proptest! {
        #[test]
        fn a_link_leads_to_the_page_it_names(
            a in any_place(), b in any_place(), page in 1..30usize,
        ) {
            let (from, to) = (at(a, 1), at(b, page));
            let here = format!("/{}", from.address());
            let here = here.split('?').next().unwrap();
            let there = follow(here, &from.link(Layout::Server, &to));
            let (path, query) = there.split_once('?').unwrap_or((&there, ""));
            prop_assert_eq!(asked(path, Some(query)), Some(Asked::Page(to.clone())));
            if !matches!(to.place, Place::Search(_)) && !matches!(from.place, Place::Search(_)) {
                let there = follow(&from.file(), &from.link(Layout::Files, &to));
                prop_assert_eq!(decoded(&there), Some(to.file()));
            }
        }

        #[test]
        fn two_pages_are_never_one_file(
            a in any_place(), b in any_place(), c in 1..3usize, d in 1..3usize,
        ) {
            prop_assume!(![&a, &b].iter().any(|place| matches!(place, Place::Search(_))));
            let (a, b) = (at(a, c), at(b, d));
            prop_assume!(a != b);
            let (one, other) = (a.file(), b.file());
            prop_assert_ne!(&one, &other);
            prop_assert!(!other.starts_with(&format!("{one}/")), "{} {}", one, other);
        }

        #[test]
        fn no_path_makes_it_panic(
            path in "/(p/|search)?(\\PC|%|/){0,12}/?", query in "\\PC{0,20}",
        ) {
            let _ = asked(&path, Some(&query));
        }
    }

    #[test]
    fn what_is_not_ours_is_left_to_the_server_and_nonsense_is_nowhere() {
        for path in [
            "",
            "/summary",
            "/objects/aa/b.filez",
            "/p",
            "/style.css",
            "/searching",
        ] {
            assert_eq!(asked(path, None), None, "{path}");
        }
        for path in [
            "/p/",
            "/p//",
            "/p/a//b/",
            "/p/-x/",
            "/p/a/-b/",
            "/p/%ff/",
            "/p/%4/",
            "/p/%2e%2E%2f/",
        ] {
            assert_eq!(asked(path, None), Some(Asked::Nowhere), "{path}");
        }
        for query in ["page=0", "page=-1", "page=x", "page=99999999999999999999"] {
            assert_eq!(asked("/", Some(query)), Some(Asked::Nowhere), "{query}");
            assert_eq!(asked("/summary", Some(query)), None);
        }
        assert_eq!(
            asked("/p/a/b%20c", None),
            Some(Asked::Moved("b%20c/".to_owned()))
        );
        let search = |wanted: &str| Some(Asked::Page(Place::Search(wanted.to_owned()).first()));
        assert_eq!(asked("/search", Some("q=a+b%2Fc")), search("a b/c"));
        assert_eq!(asked("/search", Some("q=%ff")), search(""));
        assert_eq!(
            asked("/search", Some(&format!("q={}", "%C3%A9".repeat(200)))),
            search(&"\u{e9}".repeat(100))
        );
    }
}
