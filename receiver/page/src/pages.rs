//! The contents of each page. The texts are in `templates/`.

use artifact_formats::{Size, counted, grouped};
use artifact_protocol::escape;
use askama::Template;

use crate::health::{self, Check};
use crate::links::{At, Place};
use crate::shelf::{Element, Project};
use crate::snapshot::Snapshot;
use crate::view::{
    ElementRow, FoundRow, Frame, KeyRow, Link, NO_ELEMENT, NO_PROJECT, Pager, ProjectRow, PushRow,
    ROWS, View, shown,
};
use crate::words::When;

impl View {
    /// Returns a page; `None` if no page has that place and number.
    pub(crate) fn page(&self, at: &At) -> Option<String> {
        if at.page > self.pages_of(&at.place).max(1) {
            return None;
        }
        let shelf = &self.shown.shelf;
        match &at.place {
            Place::Home => Some(self.home(at)),
            Place::Project(name) => Some(self.project(at, shelf.project(name)?)),
            Place::Element(project, element) => {
                let project = shelf.project(project)?;
                Some(self.element(at, project, project.element(element)?))
            }
            Place::Search(wanted) => Some(self.search(at, wanted)),
            Place::Missing(_) => Some(self.missing(at)),
        }
    }

    /// Returns all places that can be written as files.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = vec![Place::Home];
        for project in self.shown.shelf.projects() {
            places.push(Place::Project(project.name.clone()));
            let of_element =
                |element: &Element| Place::Element(project.name.clone(), element.name.clone());
            places.extend(project.elements.iter().map(of_element));
        }
        places
    }

    /// Returns the number of pages of a place, at least one if the place exists.
    pub(crate) fn pages_of(&self, place: &Place) -> usize {
        let shelf = &self.shown.shelf;
        let rows = match place {
            Place::Home => Some(shelf.projects().len()),
            Place::Project(name) => shelf.project(name).map(|project| project.elements.len()),
            Place::Element(project, element) => {
                let element = shelf
                    .project(project)
                    .and_then(|project| project.element(element));
                element.map(|element| shelf.keys(element).len())
            }
            // The search itself counts its pages.
            Place::Search(_) => return usize::MAX,
            Place::Missing(_) => Some(0),
        };
        rows.map_or(0, |rows| rows.div_ceil(ROWS).max(1))
    }

    /// Returns the page for a missing subject.
    pub(crate) fn missing(&self, at: &At) -> String {
        render(&MissingPage {
            frame: self.frame(at, "Not here", Vec::new()),
        })
    }

    fn home(&self, at: &At) -> String {
        let Snapshot { shelf, vitals, .. } = &*self.shown;
        let name = self.site_name();
        // Refs without a project come last, whatever the order of names.
        let (named, others): (Vec<_>, Vec<_>) = shelf
            .projects()
            .iter()
            .partition(|project| !project.name.is_empty());
        let projects = [named, others].concat();
        let rows = self.rows(at, &projects).iter();
        let url = self.url();
        render(&HomePage {
            lead: match shelf.len() {
                0 => "A shared cache of OSTree artifacts. Nothing has been pushed yet.".to_owned(),
                _ => "A shared cache of OSTree artifacts, ready to pull.".to_owned(),
            },
            refs: grouped(shelf.len() as u64),
            projects_count: counted(shelf.projects().len() as u64, "project"),
            stored: self.stock.map(|stock| {
                let bytes = Size(stock.objects.bytes + stock.others.bytes);
                (bytes.to_string(), counted(stock.objects.files, "object"))
            }),
            free: vitals.room.map(|room| {
                let (percent, state) = health::free(room);
                (Size(room.bytes_free).to_string(), percent, state.word())
            }),
            last: shelf
                .newest()
                .next()
                .map(|item| self.clock.show(item.stored.set)),
            projects: rows.map(|project| self.project_row(at, project)).collect(),
            pager: self.pager(at, shelf.projects().len()),
            pushes: self.pushes(at),
            has_audit: self.shown.has_audit,
            checks: health::checks(vitals),
            ours: format!("artifact-cache pull --repo repo --remote {url} {REF}"),
            stock: format!(
                "ostree init --repo=repo --mode=bare-user\n\
                 ostree remote add --repo=repo --no-gpg-verify cache {url}\n\
                 ostree pull --repo=repo cache {REF}"
            ),
            push: format!(
                "artifact-cache push --repo repo --remote {} alpha/greeting/1",
                self.push_to()
            ),
            is_empty: shelf.len() == 0,
            url: self.pull_url.as_ref().map(|url| url.as_str().to_owned()),
            frame: self.frame(at, &name, Vec::new()),
        })
    }

    fn project(&self, at: &At, project: &Project) -> String {
        let name = shown(&project.name, NO_PROJECT);
        let elements = self.rows(at, &project.elements).iter();
        let count = counted(project.elements.len() as u64, "element");
        render(&ProjectPage {
            lead: format!("{count}, {}", counted(project.refs as u64, "ref")),
            elements: elements
                .map(|element| self.element_row(at, project, element))
                .collect(),
            pager: self.pager(at, project.elements.len()),
            frame: self.frame(at, &name, Vec::new()),
            name,
        })
    }

    fn element(&self, at: &At, project: &Project, element: &Element) -> String {
        let name = shown(&element.name, NO_ELEMENT);
        let keys: Vec<_> = self.shown.shelf.keys(element).collect();
        let crumb = Link {
            text: shown(&project.name, NO_PROJECT),
            href: at.link(self.layout, &Place::Project(project.name.clone()).first()),
        };
        let last = keys
            .first()
            .map(|item| self.clock.show(item.stored.set).text);
        let last = last
            .map(|text| format!(", the last pushed {text}"))
            .unwrap_or_default();
        render(&ElementPage {
            lead: format!("{}{last}", counted(keys.len() as u64, "key")),
            keys: self
                .rows(at, &keys)
                .iter()
                .map(|item| self.key_row(item))
                .collect(),
            pager: self.pager(at, keys.len()),
            url: self.pull_url.as_ref().map(|url| url.as_str().to_owned()),
            frame: self.frame(at, &name, vec![crumb]),
            name,
        })
    }

    fn search(&self, at: &At, wanted: &str) -> String {
        let found = self.shown.shelf.search(wanted);
        let at = &At {
            page: at.page.min(found.len().div_ceil(ROWS).max(1)),
            place: at.place.clone(),
        };
        let lead = match (wanted.trim().is_empty(), found.len()) {
            (true, _) => {
                "Type a part of a project, element or key; of a commit, or of who pushed it."
                    .to_owned()
            }
            (false, 0) => "Nothing in the cache has all of these words.".to_owned(),
            (false, count) => format!("{} found", counted(count as u64, "ref")),
        };
        let title = if wanted.trim().is_empty() {
            "Search".to_owned()
        } else {
            format!("Search: {}", escape(wanted))
        };
        render(&SearchPage {
            lead,
            found: self
                .rows(at, &found)
                .iter()
                .map(|item| self.found_row(at, item))
                .collect(),
            pager: self.pager(at, found.len()),
            frame: self.frame(at, &title, Vec::new()),
        })
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    lead: String,
    refs: String,
    projects_count: String,
    stored: Option<(String, String)>,
    free: Option<(String, u64, &'static str)>,
    last: Option<When>,
    projects: Vec<ProjectRow>,
    pager: Pager,
    pushes: Vec<PushRow>,
    has_audit: bool,
    checks: Vec<Check>,
    url: Option<String>,
    ours: String,
    stock: String,
    push: String,
    is_empty: bool,
}

#[derive(Template)]
#[template(path = "project.html")]
struct ProjectPage {
    frame: Frame,
    name: String,
    lead: String,
    elements: Vec<ElementRow>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "element.html")]
struct ElementPage {
    frame: Frame,
    name: String,
    lead: String,
    url: Option<String>,
    keys: Vec<KeyRow>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    frame: Frame,
    lead: String,
    found: Vec<FoundRow>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "missing.html")]
struct MissingPage {
    frame: Frame,
}

fn render(template: &impl Template) -> String {
    // Rendering fails only if the formatter fails, and a string's formatter does not.
    template.render().unwrap_or_default()
}

const REF: &str = "REF";
