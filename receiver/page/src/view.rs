//! The parts of pages: the frame around each, its rows, the links between them.

use std::sync::Arc;

use artifact_formats::{Size, grouped};
use artifact_protocol::escape;

use crate::address::{PullUrl, quoted};
use crate::links::{At, Layout, Place, encoded};
use crate::policy;
use crate::shelf::{Element, Item, Project};
use crate::snapshot::{Snapshot, Stock};
use crate::words::{Clock, When};

/// The data for all pages.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) layout: Layout,
    pub(crate) clock: Clock,
    /// Seconds since 1970.
    pub(crate) now: i64,
    pub(crate) title: Option<String>,
    pub(crate) pull_url: Option<PullUrl>,
    pub(crate) push_url: Option<String>,
    pub(crate) shown: Arc<Snapshot>,
    pub(crate) stock: Option<Stock>,
}

/// The frame around every page.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) site: String,
    pub(crate) home: String,
    pub(crate) crumbs: Vec<Link>,
    /// The target of a search, on a server.
    pub(crate) action: Option<String>,
    pub(crate) query: String,
    /// When the files were written.
    pub(crate) written: Option<When>,
    pub(crate) policy: &'static str,
    pub(crate) style: &'static str,
    pub(crate) script: &'static str,
    pub(crate) icon: &'static str,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) text: String,
    pub(crate) href: String,
}

/// The part of a long list that a page shows.
#[derive(Debug)]
pub(crate) struct Pager {
    pub(crate) page: usize,
    pub(crate) pages: usize,
    pub(crate) range: String,
    pub(crate) links: Vec<(&'static str, &'static str, String)>,
}

#[derive(Debug)]
pub(crate) struct ProjectRow {
    pub(crate) link: Link,
    pub(crate) elements: String,
    pub(crate) refs: String,
    pub(crate) when: When,
    pub(crate) who: Option<String>,
}

#[derive(Debug)]
pub(crate) struct ElementRow {
    pub(crate) link: Link,
    pub(crate) keys: String,
    pub(crate) size: Option<String>,
    pub(crate) when: When,
    pub(crate) who: Option<String>,
}

#[derive(Debug)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) commit: String,
    pub(crate) size: Option<String>,
    pub(crate) when: When,
    pub(crate) made: Option<When>,
    pub(crate) who: Option<String>,
    pub(crate) ours: String,
    pub(crate) stock: String,
}

#[derive(Debug)]
pub(crate) struct FoundRow {
    pub(crate) link: Link,
    pub(crate) size: Option<String>,
    pub(crate) when: When,
    pub(crate) who: Option<String>,
}

#[derive(Debug)]
pub(crate) struct PushRow {
    pub(crate) href: Option<String>,
    pub(crate) name: String,
    pub(crate) more: usize,
    pub(crate) when: When,
    pub(crate) who: Option<String>,
    pub(crate) bytes: Option<String>,
}

impl View {
    pub(crate) fn project_row(&self, at: &At, project: &Project) -> ProjectRow {
        let last = self.shown.shelf.last_of(project);
        ProjectRow {
            link: Link {
                text: shown(&project.name, NO_PROJECT),
                href: at.link(self.layout, &Place::Project(project.name.clone()).first()),
            },
            elements: grouped(project.elements.len() as u64),
            refs: grouped(project.refs as u64),
            when: self.clock.show(last.map_or(0, |item| item.stored.set)),
            who: last.and_then(|item| item.who.as_deref()).map(escape),
        }
    }

    pub(crate) fn element_row(&self, at: &At, project: &Project, element: &Element) -> ElementRow {
        let last = self.shown.shelf.keys(element).next();
        let place = Place::Element(project.name.clone(), element.name.clone());
        ElementRow {
            link: Link {
                text: shown(&element.name, NO_ELEMENT),
                href: at.link(self.layout, &place.first()),
            },
            keys: grouped(self.shown.shelf.keys(element).len() as u64),
            size: last
                .and_then(|item| item.stored.size)
                .map(|size| Size(size).to_string()),
            when: self.clock.show(last.map_or(0, |item| item.stored.set)),
            who: last.and_then(|item| item.who.as_deref()).map(escape),
        }
    }

    pub(crate) fn key_row(&self, item: &Item) -> KeyRow {
        let (stored, url) = (&item.stored, self.url());
        let name = quoted(&stored.name);
        KeyRow {
            id: anchor(item),
            key: escape(item.key()),
            name: escape(&stored.name),
            commit: stored.commit.to_hex(),
            size: stored.size.map(|size| Size(size).to_string()),
            when: self.clock.show(stored.set),
            made: stored
                .made
                .map(|made| Clock::Dates.show(i64::try_from(made).unwrap_or(i64::MAX))),
            who: item.who.as_deref().map(escape),
            ours: escape(&format!(
                "artifact-cache pull --repo repo --remote {url} {name}"
            )),
            stock: escape(&format!("ostree pull --repo=repo cache {name}")),
        }
    }

    pub(crate) fn found_row(&self, at: &At, item: &Item) -> FoundRow {
        FoundRow {
            link: self.link_to(at, item),
            size: item.stored.size.map(|size| Size(size).to_string()),
            when: self.clock.show(item.stored.set),
            who: item.who.as_deref().map(escape),
        }
    }

    /// Returns the last pushes, from the audit log; without one, the last refs.
    pub(crate) fn pushes(&self, at: &At) -> Vec<PushRow> {
        let shelf = &self.shown.shelf;
        if self.shown.pushes.is_empty() {
            let row = |item: &Item| PushRow {
                href: Some(self.link_to(at, item).href),
                name: shortened(&item.stored.name),
                more: 0,
                when: self.clock.show(item.stored.set),
                who: item.who.as_deref().map(escape),
                bytes: None,
            };
            return shelf.newest().map(row).collect();
        }
        let pushes = self.shown.pushes.iter().map(|push| PushRow {
            href: shelf
                .find(&push.name)
                .map(|item| self.link_to(at, item).href),
            name: shortened(&push.name),
            more: push.more,
            when: self.clock.show(push.time),
            who: Some(escape(&push.who)).filter(|who| !who.is_empty()),
            bytes: Some(Size(push.bytes).to_string()),
        });
        pushes.collect()
    }

    /// Returns the link to a ref, on the page of its element that shows it.
    pub(crate) fn link_to(&self, at: &At, item: &Item) -> Link {
        let to = At {
            place: Place::Element(item.project().to_owned(), item.element().to_owned()),
            page: self.shown.shelf.place_of(item) / ROWS + 1,
        };
        Link {
            text: escape(&item.stored.name),
            href: format!("{}#{}", at.link(self.layout, &to), encoded(&anchor(item))),
        }
    }

    /// Returns the rows that a page shows.
    pub(crate) fn rows<'a, T>(&self, at: &At, all: &'a [T]) -> &'a [T] {
        let start = (at.page.saturating_sub(1).saturating_mul(ROWS)).min(all.len());
        &all[start..(start + ROWS).min(all.len())]
    }

    pub(crate) fn pager(&self, at: &At, rows: usize) -> Pager {
        let pages = rows.div_ceil(ROWS).max(1);
        let start = (at.page - 1) * ROWS;
        let to = |page: usize| {
            at.link(
                self.layout,
                &At {
                    place: at.place.clone(),
                    page,
                },
            )
        };
        let mut links = Vec::new();
        if at.page > 1 {
            links.push(("First", "first", to(1)));
            links.push(("Previous", "prev", to(at.page - 1)));
        }
        if at.page < pages {
            links.push(("Next", "next", to(at.page + 1)));
            links.push(("Last", "last", to(pages)));
        }
        Pager {
            page: at.page,
            pages,
            range: format!(
                "{} to {} of {}",
                grouped(start as u64 + 1),
                grouped((start + ROWS).min(rows) as u64),
                grouped(rows as u64)
            ),
            links,
        }
    }

    pub(crate) fn frame(&self, at: &At, title: &str, crumbs: Vec<Link>) -> Frame {
        let site = self.site_name();
        let is_home = at.place == Place::Home;
        let search = At {
            place: Place::Search(String::new()),
            page: 1,
        };
        Frame {
            title: if is_home {
                site.clone()
            } else {
                format!("{title} - {site}")
            },
            site,
            home: at.link(self.layout, &Place::Home.first()),
            crumbs,
            action: (self.layout == Layout::Server).then(|| {
                let link = at.link(self.layout, &search);
                link.trim_end_matches("?q=").to_owned()
            }),
            query: match &at.place {
                Place::Search(wanted) => escape(wanted),
                Place::Home | Place::Project(_) | Place::Element(..) | Place::Missing(_) => {
                    String::new()
                }
            },
            written: (self.layout == Layout::Files).then(|| self.clock.show(self.now)),
            policy: &policy::IN_PAGE,
            style: policy::STYLE,
            script: policy::SCRIPT,
            icon: &policy::ICON,
        }
    }

    pub(crate) fn site_name(&self) -> String {
        let by_host = || self.pull_url.as_ref().map(|url| url.host().to_owned());
        let name = self.title.clone().or_else(by_host);
        name.map_or("Artifact cache".to_owned(), |name| escape(&name))
    }

    pub(crate) fn url(&self) -> String {
        self.pull_url
            .as_ref()
            .map_or("URL", PullUrl::as_str)
            .to_owned()
    }

    pub(crate) fn push_to(&self) -> String {
        let host = self.pull_url.as_ref().map_or("HOST", PullUrl::host);
        match &self.push_url {
            Some(url) => escape(&quoted(url)),
            None => format!("ssh://artifacts@{host}/artifacts"),
        }
    }
}

/// Returns a name for display; `otherwise` if it is empty.
pub(crate) fn shown(name: &str, otherwise: &str) -> String {
    if name.is_empty() {
        otherwise.to_owned()
    } else {
        escape(name)
    }
}

/// Returns the name of a ref; a key that is a checksum is cut to the digits that people compare.
fn shortened(name: &str) -> String {
    let (path, key) = name.rsplit_once('/').unwrap_or(("", name));
    let is_checksum = key.len() >= 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    match key.get(..12).filter(|_| is_checksum) {
        Some(start) => escape(&format!("{path}/{start}")) + "\u{2026}",
        None => escape(name),
    }
}

/// Returns the anchor of a key's row in its page.
fn anchor(item: &Item) -> String {
    format!("key-{}", item.key())
}

/// Rows of a page.
pub(crate) const ROWS: usize = 100;
pub(crate) const NO_PROJECT: &str = "Without a project";
pub(crate) const NO_ELEMENT: &str = "Without an element";
