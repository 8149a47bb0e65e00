//! Forms: they work without the script.

use maud::{Markup, html};

use super::{super::first::Me, Document, egg, icon};
use crate::{config::SignUp, net::Problem};

impl Document<'_> {
    pub(super) fn sign_in(&self, failed: Option<&Problem>) -> Markup {
        html! {
            div class="page one" { main id="main" tabindex="-1" {
                div class="head flush" { h1 { "Sign in" } }
                div class="auth even" { section class="stack" {
                    h2 { "With a password" }
                    (self.sign_in_form("in", failed))
                    @if self.may_sign_up() { p class="small dim" { "No account yet? " a href="/sign-up" { "Sign up" } "." } }
                } }
            } }
        }
    }

    pub(super) fn sign_in_form(&self, id: &str, failed: Option<&Problem>) -> Markup {
        html! {
            form class="stack" method="post" action="/v1/auth/sign-in" {
                (self.name_field(id, None))
                (password_field(id, "current-password", None))
                @if let Some(problem) = failed { (fault(problem)) }
                button class="btn primary big wide" type="submit" { "Sign in" }
            }
        }
    }

    pub(super) fn sign_up(&self, failed: Option<&Problem>) -> Markup {
        let invited = self.open == Some(SignUp::Invitation);
        html! {
            div class="page one" { main id="main" tabindex="-1" {
                div class="head flush" { h1 { "Join " (self.relay.name) } }
                div class="auth" {
                    form class="stack lg" method="post" action="/v1/auth/sign-up" {
                        (self.name_field("up", Some("This is your address on all of Nostr.")))
                        (password_field("up", "new-password", Some("At least 10 characters. We cannot send you a new one: there is no e-mail here.")))
                        @if invited {
                            div class="field" {
                                label for="up-i" { "Invitation" }
                                input class="input" id="up-i" name="invitation" required;
                                p class="help" { (self.relay.name) " is for people who were invited." }
                            }
                        }
                        fieldset class="stack" {
                            legend class="label" { "Who sees when you come and go?" }
                            (choice("nobody", true, "Nobody", "You also don’t see it of others."))
                            (choice("friends", false, "Friends", "People you follow who follow you back. Gone after 24 hours, and not passed on to other relays."))
                            (choice("followers", false, "Everyone who follows you", "Anybody can follow you. Gone after 24 hours, and not passed on to other relays."))
                        }
                        label class="check" { input type="checkbox" name="listed"; " Let people find me by name" }
                        @if let Some(problem) = failed { (fault(problem)) }
                        div { button class="btn primary big" type="submit" { "Create account" } }
                    }
                }
            } }
        }
    }

    fn name_field(&self, id: &str, help: Option<&str>) -> Markup {
        html! {
            div class="field" {
                label for={ (id) "-u" } { "Username" }
                div class="affix" {
                    input class="input" id={ (id) "-u" } name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required;
                    span { "@" (self.relay.host) }
                }
                @if let Some(help) = help { p class="help" { (help) } }
            }
        }
    }
}

/// Where a post is written. It works without the script.
pub(super) fn composer(me: &Me) -> Markup {
    html! {
        form class="item composer top-of" aria-label="Write a post" method="post" action="/v1/posts" {
            (egg(&me.key, ""))
            div class="body" { div class="box" {
                label class="vh" for="compose-home" { "Write a post" }
                textarea id="compose-home" name="content" rows="1" placeholder="What is going on?" {}
                div class="tools" {
                    button class="btn icon" type="button" aria-pressed="false" aria-label="Content warning" title="Content warning" { (icon("eye", "i")) }
                    p { "Public" span class="only-wide" { ". Anyone can copy it. Pictures: paste a link." } }
                    button class="btn primary end" type="submit" { "Post" }
                }
            } }
        }
    }
}

fn password_field(id: &str, complete: &str, help: Option<&str>) -> Markup {
    html! {
        div class="field" {
            label for={ (id) "-p" } { "Password" }
            div class="with-btn" {
                input class="input" id={ (id) "-p" } name="password" type="password" autocomplete=(complete) required;
            }
            @if let Some(help) = help { p class="help" { (help) } }
        }
    }
}

fn choice(value: &str, is_chosen: bool, title: &str, text: &str) -> Markup {
    html! {
        label class="choice" {
            input type="radio" name="activity" value=(value) checked[is_chosen];
            b { (title) } span { (text) }
        }
    }
}

fn fault(problem: &Problem) -> Markup {
    let text = match problem.word() {
        "wrong-password" => "Name and password don’t match. Check both; capital letters count.".to_owned(),
        "slow-down" => "Too many tries. For safety this account waits. Try again in a minute.".to_owned(),
        _ => problem.detail.clone(),
    };
    html! { p class="err" role="alert" { (icon("warn", "i")) span { (text) } } }
}
