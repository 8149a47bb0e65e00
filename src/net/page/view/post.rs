//! A post, as it is drawn in feeds and threads.

use maud::{Markup, html};

use super::{
    super::{
        read::People,
        words::{self, FOLD, Part},
    },
    Document, egg, icon,
};
use crate::protocol::{Event, PublicKey, nip19};

impl Document<'_> {
    /// A post, or the post that a repost hands on.
    pub(super) fn item(&self, event: &Event, people: &People, nth: usize, class: &str) -> Markup {
        let id = format!("e{}", &event.id().to_hex()[..16]);
        let first = if nth == 0 { "top-of" } else { "" };
        let reposted = words::reposted(event);
        let by = reposted.is_some().then(|| event.pubkey());
        let event = reposted.as_ref().unwrap_or(event);
        let key = event.pubkey();
        html! {
            article class={ "item " (class) " " (first) } id=(id) tabindex="0" aria-posinset=(nth + 1) aria-setsize="-1"
                aria-labelledby={ (id) "-w " (id) "-d" } aria-describedby={ (id) "-t" } {
                @if class == "d2" { span class="bend" {} }
                (egg(&key, ""))
                div class="body" {
                    @if let Some(by) = by {
                        p class="ctx" { (icon("repost", "i")) a href={ "/" (nip19::npub(&by)) } dir="auto" { (people.name(&by)) } " reposted" }
                    }
                    @if let Some((_, whom)) = words::answers(event) { (answering(whom.as_ref(), people)) }
                    p class="line1" id={ (id) "-w" } { a class="who" dir="auto" href={ "/" (nip19::npub(&key)) } { (people.name(&key)) } }
                    div id={ (id) "-t" } { (content(event, people, class == "main")) }
                    @if self.me.is_some() { (acts(event, &people.name(&key))) }
                }
                time id={ (id) "-d" } datetime=(words::whole(event.created_at())) {
                    a href={ "/" (nip19::note(&event.id())) } title=(words::whole(event.created_at())) {
                        (words::ago(event.created_at(), self.now))
                    }
                }
            }
        }
    }
}

/// What the script makes work; the room for it is there before.
fn acts(event: &Event, name: &str) -> Markup {
    html! {
        div class="acts" role="group" aria-label="Actions" {
            a class="act" href={ "/" (nip19::note(&event.id())) } data-act="reply" aria-label="Reply, 0 replies" { (icon("reply", "i")) }
            button class="act" type="button" data-act="repost" aria-pressed="false" aria-label="Repost, 0 reposts" { (icon("repost", "i")) }
            button class="act" type="button" data-act="react" aria-pressed="false" aria-label="React, 0 reactions" { (icon("heart", "i")) }
            details class="menu" name="menu" { summary class="act" aria-label={ "More for post by " (name) } { (icon("more", "i")) } }
        }
    }
}

fn answering(whom: Option<&PublicKey>, people: &People) -> Markup {
    html! {
        p class="ctx" {
            (icon("reply", "i"))
            @match whom {
                Some(key) => { "replying to " a href={ "/" (nip19::npub(key)) } dir="auto" { (people.name(key)) } }
                None => "a reply",
            }
        }
    }
}

/// What a post says: its text, behind its warning if it has one, and its pictures.
fn content(event: &Event, people: &People, is_whole: bool) -> Markup {
    let said = event.content();
    let folded: String = said.chars().take(if is_whole { usize::MAX } else { FOLD }).collect();
    let is_long = folded.len() < said.len();
    let (parts, pictures) = words::parts(&folded);
    let text = html! {
        p class="text" dir="auto" {
            @for part in &parts {
                @match part {
                    Part::Text(text) => (text),
                    Part::Link(url, label) => a href=(url) rel="noopener noreferrer" target="_blank" { (label) },
                    Part::Person(key) => a href={ "/" (nip19::npub(key)) } dir="auto" { "@" (people.name(key)) },
                    Part::Post(id) => a href={ "/" (nip19::note(id)) } { "a post" },
                }
            }
            @if is_long { "… " a href={ "/" (nip19::note(&event.id())) } { "Show all" } }
        }
        @for url in &pictures {
            div class="shut" {
                (icon("picture", "i"))
                p { @match words::described(event, url) {
                    Some(alt) => { b { "Picture" } ": " span class="alt" dir="auto" { (alt) } }
                    None => b { "Picture without description" },
                } br; span { "From " (words::host(url)) ", which will see your IP address" } }
                a class="btn" href=(url) rel="noopener noreferrer" target="_blank" { "Open" }
            }
        }
    };
    match words::warning(event) {
        None => text,
        Some(reason) => html! {
            details class="cw" {
                summary class="shut" {
                    (icon("eye", "i"))
                    p { b { "Content warning" } @if !reason.is_empty() { ": " span dir="auto" { (reason) } } }
                    span class="btn show" { "Show" } span class="btn hide" { "Hide" }
                }
                (text)
            }
        },
    }
}
