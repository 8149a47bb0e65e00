//! How names, texts and times are shown. The script does the same (`web/src/words.ts`): what stands here already must not
//! move when it takes over.

use std::{borrow::Cow, num::NonZeroUsize};

use serde::Deserialize;
use url::Url;

use crate::{
    clock::civil,
    protocol::{Event, EventId, ParsedEvent, PublicKey, Timestamp, kind, nip19, verify::Verifier},
};

/// A name is cut here, in characters.
const NAME: usize = 40;
/// A post folds here, in characters.
pub const FOLD: usize = 1_200;
/// The label of a link is cut in its middle to so many characters.
const LABEL: usize = 48;

/// What somebody says of themselves (kind 0), as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct About {
    name: Option<serde_json::Value>,
    display_name: Option<serde_json::Value>,
    about: Option<serde_json::Value>,
}

impl About {
    pub fn parse(content: &str) -> Self {
        serde_json::from_str(content).unwrap_or_default()
    }

    pub fn name(&self) -> Option<String> {
        let names = [&self.display_name, &self.name].into_iter().flatten();
        names.filter_map(|name| name.as_str()).map(clean).find(|name| !name.is_empty())
    }

    pub fn about(&self) -> Option<String> {
        let about = self.about.as_ref()?.as_str()?.trim();
        (!about.is_empty()).then(|| about.chars().take(FOLD).collect())
    }
}

/// A name on one line, without signs that turn the direction of what follows or that nobody sees.
pub fn clean(name: &str) -> String {
    let visible = |sign: &char| {
        (!sign.is_control() || sign.is_whitespace())
            && !matches!(sign, '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
            && !matches!(sign, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let name: String = name.chars().filter(visible).collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(NAME).collect()
}

/// What stands for the name of somebody who has none.
pub fn short(key: &PublicKey) -> String {
    let npub = nip19::npub(key);
    format!("{}…{}", &npub[..10], &npub[npub.len() - 4..])
}

/// A part of a post's text.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Text(&'a str),
    /// A link out of here: where to, and what it is called.
    Link(&'a str, String),
    Person(PublicKey),
    Post(EventId),
}

/// A post's text in parts, and its pictures, which stand below it.
pub fn parts(text: &str) -> (Vec<Part<'_>>, Vec<&str>) {
    let (mut parts, mut pictures, mut plain) = (Vec::new(), Vec::new(), 0);
    for (start, word) in words(text) {
        let (part, length) = match link(word) {
            Some(url) if is_picture(url) => {
                pictures.push(url);
                (None, url.len())
            }
            Some(url) => (Some(Part::Link(url, label(url))), url.len()),
            None => match mention(word) {
                Some((part, length)) => (Some(part), length),
                None => continue,
            },
        };
        parts.push(Part::Text(&text[plain..start]));
        parts.extend(part);
        plain = start + length;
    }
    parts.push(Part::Text(&text[plain..]));
    parts.retain(|part| *part != Part::Text(""));
    trim(&mut parts);
    (parts, pictures)
}

/// Takes away what would be empty lines around the text.
fn trim(parts: &mut Vec<Part<'_>>) {
    if let Some(Part::Text(text)) = parts.first_mut() {
        *text = text.trim_start();
    }
    if let Some(Part::Text(text)) = parts.last_mut() {
        *text = text.trim_end();
    }
    parts.retain(|part| *part != Part::Text(""));
}

/// Words, and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_ascii_whitespace().map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn link(word: &str) -> Option<&str> {
    let rest = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://"))?;
    let url = word.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '"', '\'']);
    (!rest.is_empty() && url.len() > word.len() - rest.len()).then_some(url)
}

fn is_picture(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    [".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif"].iter().any(|ending| path.ends_with(ending))
}

/// Host and path, cut in the middle.
fn label(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let length = rest.chars().count();
    if length <= LABEL {
        return rest.to_owned();
    }
    let head: String = rest.chars().take(LABEL / 2).collect();
    let tail: String = rest.chars().skip(length - (LABEL / 2 - 1)).collect();
    format!("{head}…{tail}")
}

fn mention(word: &str) -> Option<(Part<'static>, usize)> {
    let code = word.strip_prefix("nostr:")?;
    let end = code.find(|sign: char| !sign.is_ascii_alphanumeric()).unwrap_or(code.len());
    let length = "nostr:".len() + end;
    let person = nip19::read_public_key(&code[..end]).map(Part::Person);
    let part = person.or_else(|_| nip19::read_event_id(&code[..end]).map(Part::Post)).ok()?;
    Some((part, length))
}

/// Whose server a link leads to: what a browser makes of the URL, and not what it looks like.
pub fn host(url: &str) -> String {
    if let Ok(url) = Url::parse(url)
        && let Some(host) = url.host_str()
    {
        return url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['\\', '/', '?', '#']).next().unwrap_or_default();
    rest.rsplit('@').next().unwrap_or_default().to_owned()
}

/// Which post a post answers (NIP-10), and whom.
pub fn answers(event: &Event) -> Option<(EventId, Option<PublicKey>)> {
    let marked = |mark: &str| {
        let mut tags = event.tags().iter().filter(|tag| tag.name() == "e" && tag.get(3) == Some(mark));
        tags.next().and_then(|tag| tag.value())
    };
    let unmarked = || {
        let tags =
            event.tags().iter().filter(|tag| tag.name() == "e" && tag.get(3).unwrap_or_default().is_empty());
        tags.last().and_then(|tag| tag.value())
    };
    let id = marked("reply").or_else(|| marked("root")).or_else(unmarked)?;
    let whom = event.tags().values("p").last().and_then(PublicKey::from_hex);
    Some((EventId::from_hex(id)?, whom))
}

/// The post that a repost hands on (NIP-18), where it holds it and it is what it says: its id and signature are right.
pub fn reposted(event: &Event) -> Option<Event> {
    let content = event.content();
    let post: ParsedEvent = serde_json::from_str(&content).ok().filter(|_| event.kind() == kind::REPOST)?;
    let is_named = event.tags().values("e").any(|id| id == post.id.to_hex());
    // It comes from whoever reposts it, so nobody has looked at its signature.
    let post = Verifier::new(NonZeroUsize::MIN).verify(post).ok().filter(|_| is_named)?;
    (post.kind() == kind::NOTE).then_some(post)
}

/// The content warning of a post (NIP-36); empty: it has one and no reason.
pub fn warning(event: &Event) -> Option<String> {
    let mut tags = event.tags().iter().filter(|tag| tag.name() == "content-warning");
    tags.next().map(|tag| clean(tag.value().unwrap_or_default()))
}

/// What a picture shows, in words (NIP-92).
pub fn described<'a>(event: &'a Event, url: &str) -> Option<&'a str> {
    let tags = event.tags().iter().filter(|tag| tag.name() == "imeta");
    let mut of_url = tags.filter(|tag| tag.iter().any(|part| part.strip_prefix("url ") == Some(url)));
    of_url.next()?.iter().find_map(|part| part.strip_prefix("alt "))
}

/// How long ago, in few signs. In UTC, where it is longer than an hour: the script knows better.
pub fn ago(then: Timestamp, now: Timestamp) -> Cow<'static, str> {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match now.saturating_sub(then) {
        0..MINUTE => "now".into(),
        age @ MINUTE..HOUR => format!("{} min", age / MINUTE).into(),
        _ if then / DAY == now / DAY => {
            format!("{:02}:{:02}", then % DAY / HOUR, then % HOUR / MINUTE).into()
        }
        _ if then / DAY + 1 == now / DAY => "Yesterday".into(),
        _ => {
            let (_, month, day) = date(then);
            format!("{day} {}", MONTHS[month as usize - 1]).into()
        }
    }
}

/// The whole of a point in time, in UTC.
pub fn whole(then: Timestamp) -> String {
    let (year, month, day) = date(then);
    let (hour, minute, second) = (then % 86_400 / 3_600, then % 3_600 / 60, then % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Year, month from 1 and day of a point in time. One that no calendar reaches is shown as the last of them.
fn date(then: Timestamp) -> (u64, u64, u64) {
    civil((then / 86_400).min(1 << 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_nobody_sees() {
        assert_eq!(clean("  a\u{202e}b\n\u{200b}c  d "), "ab c d");
        assert_eq!(clean(&"x".repeat(90)).len(), 40);
        let about = About::parse(r#"{"name":"\u202e","display_name":7,"about":[]}"#);
        assert_eq!((about.name(), about.about()), (None, None));
    }

    #[test]
    fn a_text_has_links_mentions_and_pictures() {
        let npub = nip19::npub(&PublicKey([1; 32]));
        let text = format!("see https://a.example/b, (http://) nostr:{npub}’s\nhttps://a.example/c.PNG?x");
        let (parts, pictures) = parts(&text);
        let expected = [
            Part::Text("see "),
            Part::Link("https://a.example/b", "a.example/b".into()),
            Part::Text(", (http://) "),
            Part::Person(PublicKey([1; 32])),
            Part::Text("’s"),
        ];
        assert_eq!(parts, expected);
        assert_eq!(pictures, ["https://a.example/c.PNG?x"]);
    }

    #[test]
    fn links_are_links_only_to_the_web() {
        for text in ["javascript:alert(1)", "data:text/html,x", "https://", "x https:// y", "ftp://a.example"]
        {
            assert!(!parts(text).0.iter().any(|part| matches!(part, Part::Link(..))), "{text}");
        }
    }

    #[test]
    fn times_are_short() {
        let now = 1_795_824_000 + 36_000;
        let shown = |before: u64| ago(now - before, now).into_owned();
        assert_eq!([0, 59, 60, 3_599].map(shown), ["now", "now", "1 min", "59 min"].map(str::to_owned));
        assert_eq!(shown(3_600 * 2), "08:00");
        assert_eq!(shown(86_400), "Yesterday");
        assert_eq!(ago(1_767_225_600, now), "1 Jan");
        assert_eq!(whole(1_709_164_799), "2024-02-28T23:59:59Z");
        assert_eq!(whole(1_709_251_199), "2024-02-29T23:59:59Z");
    }
}
