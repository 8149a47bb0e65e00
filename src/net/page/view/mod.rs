//! The document: what a person sees before the script runs, or without it. Whatever comes from the network is escaped by
//! the type of the template.

mod forms;
mod post;

use maud::{DOCTYPE, Markup, html};

use self::forms::composer;
use super::{
    files::FILES,
    first::{Me, Relay, Screen, first},
    read::{Posts, Thread},
    symbols::symbols,
    words,
};
use crate::{
    config::SignUp,
    protocol::{PublicKey, Timestamp, nip19},
};

/// How a person wants the page to look; it is said in a cookie, so that nothing flashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    System,
    Light,
    Dark,
}

impl Theme {
    pub fn of(cookie: Option<&str>) -> Self {
        match cookie {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }

    fn attribute(self) -> Option<&'static str> {
        match self {
            Self::System => None,
            Self::Light => Some("light"),
            Self::Dark => Some("dark"),
        }
    }
}

/// Everything that a document is made of.
pub struct Document<'a> {
    pub relay: &'a Relay,
    pub screen: &'a Screen,
    pub theme: Theme,
    pub me: Option<&'a Me>,
    /// Who may sign up; `None`: there are no accounts.
    pub open: Option<SignUp>,
    pub now: Timestamp,
}

impl Document<'_> {
    pub fn render(&self) -> Markup {
        let (title, description) = self.about();
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[self.theme.attribute()] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · " (self.relay.name) }
                    meta name="description" content=(description);
                    meta property="og:title" content=(title);
                    meta property="og:description" content=(description);
                    meta property="og:site_name" content=(self.relay.name);
                    link rel="icon" href=(FILES.mark.path) type="image/svg+xml";
                    link rel="stylesheet" href=(FILES.style.path);
                    // Nothing is painted before all of it is there: half of a line would move when the rest comes.
                    link rel="expect" href="#say" blocking="render";
                    (first(self.relay, self.screen, self.me, self.open, self.now))
                    script type="module" src=(FILES.script.path) {}
                }
                body {
                    (symbols())
                    div id="app" { (self.body()) }
                    p id="say" class="vh" role="status" {}
                }
            }
        }
    }

    /// Title and description, for whoever follows a link here.
    fn about(&self) -> (String, String) {
        let relay = self.relay;
        let welcome = || match relay.description.trim() {
            "" => format!("{} is a relay for Nostr.", relay.name),
            text => text.to_owned(),
        };
        match self.screen {
            Screen::Person(key, posts) => {
                let about = posts.people.get(key).and_then(|person| person.about.clone());
                (posts.people.name(key), shortened(&about.unwrap_or_else(welcome)))
            }
            Screen::Thread(thread) => {
                let name = thread.people.name(&thread.post.pubkey());
                let said = match words::warning(&thread.post) {
                    Some(reason) => warned(&reason),
                    None => thread.post.content().into_owned(),
                };
                (format!("A post by {name}"), shortened(&said))
            }
            Screen::Missing(_) => ("Not here".to_owned(), welcome()),
            Screen::Late => ("A moment".to_owned(), welcome()),
            Screen::Landing(_) | Screen::Home(_) => ("Home".to_owned(), shortened(&welcome())),
            Screen::Failed(_) => ("Not taken".to_owned(), welcome()),
            Screen::SignIn(_) => ("Sign in".to_owned(), welcome()),
            Screen::SignUp(_) => ("Join".to_owned(), welcome()),
            Screen::Own(title) => ((*title).to_owned(), welcome()),
        }
    }

    fn body(&self) -> Markup {
        let relay = self.relay;
        html! {
            a class="skip" href="#main" { "Skip to content" }
            header class="top" { div {
                a class="brand" href="/" { (icon("mark", "")) span { (relay.name) } }
                @if self.me.is_some() { (self.nav()) }
                div class="row end" {
                    @if self.me.is_none() && self.open.is_some() {
                        a class="btn" href="/sign-in" { "Sign in" }
                        @if self.may_sign_up() { a class="btn primary only-wide" href="/sign-up" { "Sign up" } }
                    }
                }
            } }
            // The script's banners stand here: what follows is taken over as it is.
            div class="banners" {}
            @match self.screen {
                Screen::Landing(posts) => (self.landing(posts)),
                Screen::Person(key, posts) => (self.person(key, posts)),
                Screen::Thread(thread) => (self.thread(thread)),
                Screen::Home(posts) => (self.home(posts)),
                Screen::SignIn(failed) => (self.sign_in(failed.as_ref())),
                Screen::SignUp(failed) => (self.sign_up(failed.as_ref())),
                Screen::Failed(problem) => (self.plain("This was not taken", &problem.detail)),
                Screen::Own(title) => (self.plain(title, "This part of the page needs its script.")),
                Screen::Missing(what) => (self.plain("Not here", what)),
                Screen::Late => (self.plain("A moment", "The relay is busy. This page is loaded again in a few seconds.")),
            }
        }
    }

    fn may_sign_up(&self) -> bool {
        self.open.is_some_and(|open| open != SignUp::Closed)
    }

    fn nav(&self) -> Markup {
        let here = match self.screen {
            Screen::Home(_) => "Home",
            Screen::Own(title) => title,
            _ => "",
        };
        let places = [
            ("/", "home", "Home"),
            ("/notices", "bell", "Notices"),
            ("/people", "people", "People"),
            ("/settings", "gear", "Settings"),
        ];
        html! {
            nav class="nav" aria-label="Main" {
                @for (path, symbol, label) in places {
                    // Its count has a place before it is there.
                    @let class = (path == "/notices").then_some("counted");
                    a class=[class] href=(path) aria-current=[(label == here).then_some("page")] {
                        (icon(symbol, "i")) span { (label) }
                    }
                }
            }
        }
    }

    fn home(&self, posts: &Posts) -> Markup {
        html! {
            div class="page" {
                main id="main" tabindex="-1" {
                    div class="feedbar" { h1 { "Home" } }
                    @if let Some(me) = self.me { (composer(me)) }
                    div class="slot" {}
                    div class="feedwrap" {
                        div role="feed" id="feed" aria-label="Home, newest first" aria-busy="false" tabindex="-1" {
                            @for (nth, event) in posts.events.iter().enumerate() { (self.item(event, &posts.people, nth, "")) }
                            @if posts.events.is_empty() { (silence("Nothing has been said yet.")) }
                        }
                    }
                }
                aside class="side wide" aria-label="About this page" {}
            }
        }
    }

    fn landing(&self, posts: &Posts) -> Markup {
        let relay = self.relay;
        html! {
            div class="page" {
                main id="main" tabindex="-1" { div class="landing" {
                    div class="hero" {
                        (icon("mark", ""))
                        h1 { (headline(relay)) }
                        p {
                            (relay.name) " is a relay for Nostr. Read along without an account."
                            @if self.may_sign_up() { " Sign up to post and to follow people." }
                        }
                        @if self.open.is_some() {
                            div class="row wrap" {
                                @if self.may_sign_up() { a class="btn primary big" href="/sign-up" { "Sign up" } }
                                a class="btn big only-phone" href="/sign-in" { "Sign in" }
                            }
                        }
                    }
                    div class="feedbar" { h2 { "Being said here, right now" } }
                    div class="slot" {}
                    div class="feedwrap" {
                        div role="feed" id="feed" aria-label="Public notes, newest first" aria-busy="false" tabindex="-1" {
                            @for (nth, event) in posts.events.iter().enumerate() {
                                (self.item(event, &posts.people, nth, ""))
                            }
                            @if posts.events.is_empty() { (self.empty()) }
                        }
                    }
                } }
                aside class="side" aria-label="About this relay" {
                    @if self.open.is_some() {
                        section class="panel stack" { h2 { "Sign in" } (self.sign_in_form("side", None)) }
                    }
                    (self.facts())
                }
            }
        }
    }

    fn empty(&self) -> Markup {
        let text = if self.relay.live.is_some() {
            "Nobody has said anything yet. What is said appears here by itself."
        } else {
            "What is said here is not shown to strangers."
        };
        silence(text)
    }

    /// What a program needs to know.
    fn facts(&self) -> Markup {
        let relay = self.relay;
        let nips: Vec<String> = relay.nips.iter().map(u16::to_string).collect();
        html! {
            section class="stack" {
                h2 { "For developers" }
                dl class="facts" {
                    dt { "Relay" } dd { code { (relay.address) } }
                    dt { "Speaks" } dd { "NIP " (nips.join(", ")) }
                    dt { "Limits" } dd {
                        (relay.max_message_bytes / 1024) " KiB a message, " (relay.max_subscriptions) " subscriptions, "
                        (relay.max_limit) " events a page"
                    }
                    dt { "Write" } dd { (relay.write) }
                    @if !relay.contact.is_empty() { dt { "Contact" } dd { (contact(&relay.contact)) } }
                    dt { "Software" } dd { "Rookery " (relay.version) }
                }
            }
        }
    }

    fn person(&self, key: &PublicKey, posts: &Posts) -> Markup {
        let name = posts.people.name(key);
        html! {
            div class="page" { main id="main" tabindex="-1" {
                div class="profile" {
                    (egg(key, "lg"))
                    div class="stack" { div class="row wrap" { div { h1 dir="auto" { (name) } p class="small dim" { code { (words::short(key)) } } } } }
                    div class="rest" {
                        @if let Some(about) = posts.people.get(key).and_then(|person| person.about.as_deref()) {
                            p class="text" dir="auto" { (about) }
                        }
                        details { summary class="btn quiet" { "Key" } dl class="facts" { dt { "npub" } dd { code { (nip19::npub(key)) } } } }
                    }
                }
                h2 class="vh" { "Posts" }
                div class="slot" {}
                div class="feedwrap" {
                    div role="feed" id="feed" aria-label={ "Posts by " (name) } aria-busy="false" tabindex="-1" {
                        @for (nth, event) in posts.events.iter().enumerate() { (self.item(event, &posts.people, nth, "")) }
                    }
                }
            } }
        }
    }

    fn thread(&self, thread: &Thread) -> Markup {
        html! {
            div class="page" { main id="main" tabindex="-1" {
                div class="head" { h1 { "Thread" } }
                div class="thread" {
                    @for (nth, event) in thread.above.iter().enumerate() { (self.item(event, &thread.people, nth, "")) }
                    (self.item(&thread.post, &thread.people, thread.above.len(), "main"))
                    @for (nth, (event, depth)) in thread.below.iter().enumerate() {
                        (self.item(event, &thread.people, thread.above.len() + 1 + nth, if *depth > 1 { "d2" } else { "" }))
                    }
                }
            } }
        }
    }

    fn plain(&self, title: &str, text: &str) -> Markup {
        // Those that the script draws have its frame, so that nothing moves when it does.
        let (page, head) = match self.screen {
            Screen::Own("Notices") => ("page", "head"),
            Screen::Own("People") => ("page", "head flush"),
            _ => ("page one", "head flush"),
        };
        html! {
            div class=(page) { main id="main" tabindex="-1" {
                div class=(head) { h1 { (title) } }
                p { (text) " " a href="/" { "To the front page" } }
            } }
        }
    }
}

/// What stands where nothing has been said.
fn silence(text: &str) -> Markup {
    html! { article class="item quiet top-of end-of" tabindex="-1" { span class="knot" {} p class="body gone" { (text) } } }
}

fn headline(relay: &Relay) -> &str {
    match relay.description.trim() {
        "" => "A small place to talk, where nothing gets lost on the way.",
        text => text.lines().next().unwrap_or(text),
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(MOST).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}

fn warned(reason: &str) -> String {
    if reason.is_empty() { "Content warning".to_owned() } else { format!("Content warning: {reason}") }
}

/// Only what opens a mail program or a page is a link.
fn contact(contact: &str) -> Markup {
    let opens = ["mailto:", "https://"].iter().any(|scheme| contact.starts_with(scheme));
    html! {
        @if opens { a href=(contact) rel="noopener noreferrer" { (contact.trim_start_matches("mailto:")) } }
        @else { (contact) }
    }
}

fn egg(key: &PublicKey, class: &str) -> Markup {
    html! { span class={ "egg " (class) } { img src={ "/eggs/" (key) ".svg" } alt="" width="40" height="40"; } }
}

fn icon(name: &str, class: &str) -> Markup {
    html! { svg class=(class) aria-hidden="true" { use href={ "#i-" (name) } {} } }
}
