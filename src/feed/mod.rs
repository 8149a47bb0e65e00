//! What an account does as an author, and what it sees: posts, follow lists, activity, the feed.
//!
//! Everything that an account says enters by the door of all events, and everything that it sees is read with its own
//! eyes.

mod activity;
mod asked;
mod door;
mod error;
mod follows;
mod marks;
mod mutes;
mod people;
mod posts;
mod profile;
mod reading;
mod replaceable;
mod timeline;
mod warming;

pub use self::{
    activity::{Activity, Deed},
    asked::{Counted, Feed, Friend, Parts},
    door::{Door, Published, Ways},
    error::FeedError,
    follows::{Bounds, Changed, Confirmed, Follows, Known, Lists, Version, Wish, people},
    marks::{have_read, read_mark},
    mutes::Wish as MuteWish,
    people::{Profile, Profiles, introduce, of_events, profiles},
    posts::{NewPost, Posted, Posts},
    reading::{Place, Reader, Span, by, nobody, tagged},
    timeline::{Authors, Page},
    warming::Warming,
};

#[cfg(test)]
mod stage;
