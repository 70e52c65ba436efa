//! The tries of a probe, except races.

use artifact_store::bucket::{
    Answer, BucketError, Class, Client, Condition, Key, Outcome, Read, Request, Tag, Upload,
};
use bytes::Bytes;

use crate::probe::report::{Probed, Report, Verdict};
use crate::settings::TagForm;

/// The prefix under which a probe puts its objects.
pub(super) struct Place {
    name: String,
}

impl Place {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    /// Returns a key that only this probe uses. The name of a probe is short and plain.
    pub(super) fn key(&self, of: &str) -> Result<Key, BucketError> {
        let text = format!("{}{of}", self.prefix());
        Key::new(text).map_err(|error| BucketError::Broken(error.to_string()))
    }

    pub(super) fn prefix(&self) -> String {
        format!("extensions/artifact-cache/probe/{}/", self.name)
    }
}

/// An objection to the server, or the error of a request that should have worked.
type Against = Result<Option<String>, BucketError>;

pub(super) fn judged(report: &mut Report, probed: Probed, verdict: Verdict, against: Against) {
    match against {
        Ok(against) => report.judge(probed, verdict, against),
        Err(error) => report.add(probed, verdict, error.to_string()),
    }
}

/// Tries a put, and reads and lists right after it.
pub(super) fn basics(client: &Client, place: &Place, report: &mut Report) {
    let stored = place.key("a").and_then(|key| {
        client.put(&key, text("first"), Condition::Always, Class::Private)?;
        Ok(key)
    });
    let key = match stored {
        Ok(key) => key,
        Err(error) => {
            return report.add(Probed::Reach, Verdict::Unusable, error.to_string());
        }
    };
    report.add(Probed::Reach, Verdict::Good, "");
    let read = || {
        let first = client.get(&key)?.map(|found| found.content);
        client.put(&key, text("second"), Condition::Always, Class::Private)?;
        let second = client.get(&key)?.map(|found| found.content);
        let is_right = first == Some(text("first")) && second == Some(text("second"));
        let absent = client.get(&place.key("absent")?)?;
        Ok((!is_right || absent.is_some()).then(|| "a read was not of the last write".to_owned()))
    };
    judged(report, Probed::ReadAfterWrite, Verdict::Unusable, read());
    let list = || {
        let listed = |prefix: &str| -> Result<Vec<String>, BucketError> {
            let entries = client.list_all(prefix)?;
            Ok(entries
                .into_iter()
                .map(|entry| entry.key.to_string())
                .collect())
        };
        let (b, c) = (place.key("list/b")?, place.key("list/c")?);
        for key in [&c, &b] {
            client.put(key, text("x"), Condition::Always, Class::Private)?;
        }
        let prefix = format!("{}list/", place.prefix());
        let both = listed(&prefix)? == [b.to_string(), c.to_string()];
        let behind = client.list(&prefix, Some(b.clone()), 1000)?;
        let behind = behind.entries.len() == 1 && !behind.more;
        let first = client.list(&prefix, None, 1)?;
        let first = first.entries.len() == 1 && first.more;
        client.delete(&[b])?;
        let one = listed(&prefix)? == [c.to_string()];
        client.delete(&[c])?;
        let none = listed(&prefix)?.is_empty();
        let is_right = both && behind && first && one && none;
        Ok((!is_right).then(|| "a list lacked or kept what had just changed".to_owned()))
    };
    judged(
        report,
        Probed::ListAfterWrite,
        Verdict::UnsafeForSeveral,
        list(),
    );
    let unless = || {
        let found = client.get(&key)?;
        let Some(found) = found else {
            return Ok(Some("an object is missing".to_owned()));
        };
        let again = client.read(&key, Some(found.tag))?;
        let text = "the content came although it had not changed: summaries are read in full";
        Ok((again != Read::Unchanged).then(|| text.to_owned()))
    };
    judged(report, Probed::GetUnlessChanged, Verdict::Worse, unless());
}

/// Tries puts that must take place only once.
pub(super) fn puts_of_new(client: &Client, place: &Place, report: &mut Report) {
    let tries = || {
        let key = place.key("new")?;
        let put =
            |content: &'static str| client.put(&key, text(content), Condition::New, Class::Private);
        if put("one")? == Outcome::NotMet {
            return Ok(Some("the first put was refused".to_owned()));
        }
        if put("two")? != Outcome::NotMet {
            return Ok(Some(
                "the condition is ignored: a put over an existing key was answered with success"
                    .to_owned(),
            ));
        }
        let kept = client.get(&key)?.map(|found| found.content) == Some(text("one"));
        Ok((!kept).then(|| "a refused put took place".to_owned()))
    };
    judged(report, Probed::PutNew, Verdict::UnsafeForSeveral, tries());
}

/// Tries puts that must take place only over a given tag, and finds the form of tags that works.
pub(super) fn swaps(quoted: &Client, bare: &Client, place: &Place, report: &mut Report) {
    let mut refusals = Vec::new();
    for (form, client) in [(TagForm::Quoted, quoted), (TagForm::Bare, bare)] {
        match swap(client, place) {
            Ok(None) => {
                report.tags = form;
                let text = match form {
                    TagForm::Quoted => "",
                    TagForm::Bare => "the server wants tags without quotes, and gets them so",
                };
                return report.add(Probed::PutIfMatch, Verdict::Good, text);
            }
            Ok(Some(Refused(against))) => refusals.push(against),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    refusals.dedup();
    report.add(
        Probed::PutIfMatch,
        Verdict::UnsafeForSeveral,
        refusals.join("; "),
    );
}

/// An objection to one form of tags.
struct Refused(String);

fn swap(client: &Client, place: &Place) -> Result<Option<Refused>, BucketError> {
    let refused = |text: &str| Ok(Some(Refused(text.to_owned())));
    let key = place.key("swapped")?;
    let put =
        |key: &Key, content, condition| client.put(key, text(content), condition, Class::Private);
    let Outcome::Stored(tag) = put(&key, "one", Condition::Always)? else {
        return refused("an unconditional put was refused");
    };
    if put(
        &key,
        "two",
        Condition::Is(Tag::new("00000000000000000000000000000000")),
    )? != Outcome::NotMet
    {
        return refused(
            "the condition is ignored: a put over another tag was answered with success",
        );
    }
    if put(&place.key("absent")?, "two", Condition::Is(tag.clone()))? != Outcome::NotMet {
        return refused("a put over a tag of a missing key was answered with success");
    }
    if put(&key, "three", Condition::Is(tag))? == Outcome::NotMet {
        return refused("a put over the right tag was refused");
    }
    let is_right = client.get(&key)?.map(|found| found.content) == Some(text("three"));
    if is_right {
        Ok(None)
    } else {
        refused("a refused put took place")
    }
}

/// Tries uploads in parts, and a read of a range.
pub(super) fn uploads(client: &Client, place: &Place, report: &mut Report) {
    let mut range = Ok(None);
    let mut tries = || {
        let key = place.key("upload")?;
        let upload = client.begin_upload(&key, Class::Private)?;
        let first = Bytes::from(vec![b'x'; PART]);
        let parts = [
            part(client, &upload, 1, first)?,
            part(client, &upload, 2, text("end"))?,
        ];
        if client.get(&key)?.is_some() {
            return Ok(Some("an upload was visible before its end".to_owned()));
        }
        client.complete_upload(&upload, &parts)?;
        range = client.get_range(&key, PART as u64, 10).map(|found| {
            let is_right = found.is_some_and(|found| found.content == "end");
            (!is_right).then(|| "a range was not what was asked for".to_owned())
        });
        let aborted = place.key("aborted")?;
        let upload = client.begin_upload(&aborted, Class::Private)?;
        part(client, &upload, 1, text("x"))?;
        client.abort_upload(&upload)?;
        let is_gone = client.get(&aborted)?.is_none();
        Ok((!is_gone).then(|| "an aborted upload became an object".to_owned()))
    };
    let against = tries();
    judged(report, Probed::Uploads, Verdict::Unusable, against);
    judged(report, Probed::Ranges, Verdict::Worse, range);
}

fn part(client: &Client, upload: &Upload, number: u32, content: Bytes) -> Result<Tag, BucketError> {
    let upload = upload.clone();
    match client.call(&Request::PutPart {
        upload,
        number,
        content,
    })? {
        Answer::Part(tag) => Ok(tag),
        other => Err(BucketError::misfit("a part", &other)),
    }
}

/// Tries what everybody may see. A cache may be private, so no verdict is worse than [`Worse`].
///
/// [`Worse`]: Verdict::Worse
pub(super) fn anonymous(everybody: &Client, place: &Place, report: &mut Report) {
    let Ok(hidden) = place.key("a") else { return };
    let config = Key::new("config").map(|key| everybody.get(&key));
    let missing = Key::new("refs/heads/missing-ref-of-a-probe").map(|key| everybody.get(&key));
    let public = match config {
        Ok(Ok(_)) => None,
        _ => Some(
            "everybody is refused, or the cache is new: pullers need a policy that lets them read"
                .to_owned(),
        ),
    };
    let is_public = public.is_none();
    report.judge(Probed::PublicRead, Verdict::Worse, public);
    if !is_public {
        return;
    }
    let told = match missing {
        Ok(Ok(_)) => None,
        _ => Some(
            "everybody gets 403 instead of 404: pulls of a missing ref fail with a misleading \
             error; let everybody list the bucket (s3:ListBucket), or turn 403 into 404 in the CDN"
                .to_owned(),
        ),
    };
    report.judge(Probed::PublicMissing, Verdict::Worse, told);
    let seen = matches!(everybody.get(&hidden), Ok(Some(_))).then(|| {
        "everybody may read extensions/artifact-cache, which names who pushes; exclude it from the \
         policy"
            .to_owned()
    });
    report.judge(Probed::PrivateHidden, Verdict::Worse, seen);
}

/// Tries to delete many objects in one request: all that the probe has put.
pub(super) fn deletion(client: &Client, place: &Place, report: &mut Report) {
    let tries = || {
        let entries = client.list_all(&place.prefix())?;
        let keys: Vec<Key> = entries.into_iter().map(|entry| entry.key).collect();
        client.delete(&keys)?;
        client.delete(&keys)?;
        let left = client.list_all(&place.prefix())?;
        Ok((!left.is_empty()).then(|| format!("{} deleted objects are left", left.len())))
    };
    judged(report, Probed::DeleteMany, Verdict::Unusable, tries());
}

pub(super) fn clock(server: Option<u64>, ours: u64, report: &mut Report) {
    let against = match server {
        None => Some("the server sends no date".to_owned()),
        Some(server) => {
            let (skew, direction) = match server.checked_sub(ours) {
                Some(ahead) => (ahead, "ahead of"),
                None => (ours - server, "behind"),
            };
            (skew > SKEW_MAX)
                .then(|| format!("the server's clock is {skew} seconds {direction} this machine's"))
        }
    };
    report.judge(Probed::Clock, Verdict::Worse, against);
}

pub(super) fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// The least length in bytes that servers accept for a part before the last.
const PART: usize = 5 * 1024 * 1024;
/// The greatest good difference in seconds. Servers refuse requests that are 15 minutes off.
const SKEW_MAX: u64 = 60;
