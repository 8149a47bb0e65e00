//! A world of follow lists and doings, beside what a session concludes of them.

use std::collections::{BTreeMap, VecDeque};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::protocol::{Audience, sign::Keys};

/// The reader is the first of them.
const PEOPLE: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    /// Somebody publishes a follow list: a bit for each of the people.
    Follow(usize, u8),
    /// Somebody deletes their list, and says of which kind it is or does not; or vanishes.
    Delete(usize, bool),
    Vanish(usize),
    /// Somebody does something.
    Act(usize, Audience),
    /// One of the next events comes.
    Come(usize),
    /// The next part of reading the circle.
    Read,
    /// Nothing of what is on its way will come; the node knows that it may have missed something.
    Miss,
    /// The client asks anew.
    Ask,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let audience = prop_oneof![Just(Audience::Friends), Just(Audience::Followers)];
    let step = prop_oneof![
        6 => (0..PEOPLE, 0..1_u8 << PEOPLE).prop_map(|(who, whom)| Step::Follow(who, whom)),
        1 => (0..PEOPLE, any::<bool>()).prop_map(|(who, says)| Step::Delete(who, says)),
        1 => (0..PEOPLE).prop_map(Step::Vanish),
        6 => (1..PEOPLE, audience).prop_map(|(who, audience)| Step::Act(who, audience)),
        12 => (0..3_usize).prop_map(Step::Come),
        8 => Just(Step::Read),
        1 => Just(Step::Miss),
        1 => Just(Step::Ask),
    ];
    vec(step, 0..60)
}

/// What the reading of a circle has come to.
enum Reading {
    Lists,
    Friends { followed: BTreeSet<PublicKey>, heard: Heard },
}

/// A store of follow lists, events on their way from there, and a session that is told of them.
struct World {
    people: Vec<Keys>,
    lists: BTreeMap<PublicKey, BTreeSet<PublicKey>>,
    on_their_way: VecDeque<Arc<Event>>,
    doubts: u64,
    time: u64,
    watch: Watch,
    reading: Option<Reading>,
    /// Whose lists the session is subscribed to, beside the reader's.
    subscribed: BTreeSet<PublicKey>,
    /// The lists at every time.
    history: Vec<BTreeMap<PublicKey, BTreeSet<PublicKey>>>,
    /// The events that tell of doings.
    doings: Vec<Arc<Event>>,
    /// Those that came before a list which is older.
    overtaking: Vec<Arc<Event>>,
    /// What was shown, and the first and last time of which the session may have known.
    shown: Vec<(Arc<Event>, [u64; 2])>,
    /// When the reading of the circle began.
    read_since: u64,
}

impl World {
    fn new() -> Self {
        let people = (1..=PEOPLE as u8).map(|n| Keys::from_secret([n; 32]).unwrap()).collect();
        let mut watch = Watch::default();
        watch.want();
        Self {
            people,
            lists: BTreeMap::new(),
            on_their_way: VecDeque::new(),
            doubts: 0,
            time: 0,
            watch,
            reading: None,
            subscribed: BTreeSet::new(),
            history: vec![BTreeMap::new()],
            doings: Vec::new(),
            overtaking: Vec::new(),
            shown: Vec::new(),
            read_since: 0,
        }
    }

    fn key(&self, who: usize) -> PublicKey {
        self.people[who].public_key()
    }

    fn viewer(&self) -> Viewer {
        Viewer::Client { keys: [self.key(0)].into(), circle: self.watch.circle().cloned() }
    }

    fn follows(&self, who: PublicKey, whom: PublicKey) -> bool {
        self.lists.get(&who).is_some_and(|list| list.contains(&whom))
    }

    /// Whether the reader followed the author at that time, and whether the author followed back or does not care.
    fn relation(&self, event: &Event, time: u64) -> [bool; 2] {
        let lists = &self.history[time as usize];
        let follows =
            |who: PublicKey, whom: &PublicKey| lists.get(&who).is_some_and(|list| list.contains(whom));
        let (reader, author) = (self.key(0), event.pubkey());
        let is_for_all = Audience::of(event.tags()) == Some(Audience::Followers);
        [follows(reader, &author), is_for_all || follows(author, &reader)]
    }

    fn publish(&mut self, who: usize, kind: u16, tags: Tags) -> Arc<Event> {
        let event = Arc::new(self.people[who].sign(self.time, kind, tags, ""));
        self.on_their_way.push_back(Arc::clone(&event));
        event
    }

    fn step(&mut self, step: &Step) {
        self.time += 1;
        match *step {
            Step::Follow(who, whom) => {
                let whom: BTreeSet<PublicKey> =
                    (0..PEOPLE).filter(|n| whom & 1 << n != 0).map(|n| self.key(n)).collect();
                self.publish(who, kind::FOLLOW_LIST, named(&whom));
                self.lists.insert(self.key(who), whom);
            }
            Step::Delete(who, says) => {
                let tags = Tags::from_iter([["e", "x"], ["k", "3"]].into_iter().take(1 + usize::from(says)));
                self.publish(who, kind::DELETION, tags);
                self.lists.remove(&self.key(who));
            }
            Step::Vanish(who) => {
                self.publish(who, kind::VANISH, Tags::default());
                self.lists.remove(&self.key(who));
            }
            Step::Act(who, audience) => {
                let tags = Tags::from_iter([[Audience::TAG, audience.as_str()]]);
                let event = self.publish(who, kind::ACTIVITY, tags);
                self.doings.push(event);
            }
            Step::Come(nth) => {
                let come = self.on_their_way.remove(nth.min(self.on_their_way.len().saturating_sub(1)));
                come.into_iter().for_each(|event| self.come(&event));
            }
            Step::Read => self.read(),
            Step::Miss => {
                // The log has what was to be shown, and is read.
                self.on_their_way.retain(|event| event.kind() == kind::ACTIVITY);
                self.doubts += 1;
            }
            Step::Ask => {
                self.watch.want();
            }
        }
        self.history.push(self.lists.clone());
    }

    fn lists_on_their_way(&self) -> impl Iterator<Item = u64> {
        let lists = self.on_their_way.iter().filter(|event| event.kind() != kind::ACTIVITY);
        lists.map(|event| event.created_at())
    }

    fn come(&mut self, event: &Arc<Event>) {
        let keys = [self.key(0)];
        if event.kind() != kind::ACTIVITY {
            if keys.contains(&event.pubkey()) || self.subscribed.contains(&event.pubkey()) {
                self.watch.change(event, &keys);
            }
            return;
        }
        if self.lists_on_their_way().any(|at| at < event.created_at()) {
            self.overtaking.push(Arc::clone(event));
        }
        let now = Heard { node: self.doubts, last: 0 };
        match self.watch.judge(event, &self.viewer(), |_| Some(now)) {
            Verdict::Shown => self.show(Arc::clone(event), false),
            Verdict::Hidden => {}
            Verdict::Undecided => self.watch.hold(0, Arc::clone(event), usize::MAX).unwrap(),
        }
    }

    fn read(&mut self) {
        let heard = Heard { node: self.doubts, last: 0 };
        match self.reading.take() {
            None if self.watch.is_due() => {
                self.watch.begin();
                self.read_since = self.time;
                self.reading = Some(Reading::Lists);
            }
            None => {}
            Some(Reading::Lists) => {
                let followed = self.lists.get(&self.key(0)).cloned().unwrap_or_default();
                self.subscribed.clone_from(&followed);
                self.reading = Some(Reading::Friends { followed, heard });
            }
            Some(Reading::Friends { followed, heard: own }) => {
                let reader = self.key(0);
                let friends = followed.iter().copied().filter(|key| self.follows(*key, reader)).collect();
                self.watch.end(Some((Circle::new(&followed, &friends), Some((own, heard)))), &[reader]);
                for (_, event) in self.watch.release(&self.viewer()) {
                    self.show(event, true);
                }
            }
        }
    }

    /// `is_read`: the circle has just been read. Else the session knows what has come so far.
    fn show(&mut self, event: Arc<Event>, is_read: bool) {
        let unknown_since = self.lists_on_their_way().min().unwrap_or(self.time);
        let since = if is_read { unknown_since.min(self.read_since) } else { unknown_since };
        self.shown.push((event, [since.saturating_sub(1), self.time - 1]));
    }
}

fn named(people: &BTreeSet<PublicKey>) -> Tags {
    people.iter().map(|key| ["p".to_owned(), key.to_hex()]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 600, ..ProptestConfig::default() })]

    /// Nobody is shown what is not for them, as far as could be known; and when all has come, everybody was shown once
    /// what was for them all along.
    #[test]
    fn shows_what_is_for_the_reader(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        while !world.on_their_way.is_empty() || world.watch.is_due() || world.watch.is_reading() {
            world.step(&Step::Come(0));
            world.step(&Step::Read);
        }
        for event in &world.doings {
            let is = |other: &Arc<Event>| other.id() == event.id();
            let shown: Vec<_> = world.shown.iter().filter(|(other, _)| is(other)).collect();
            prop_assert!(shown.len() <= 1, "shown {} times", shown.len());
            let told = format!("done at {}", event.created_at());
            for (_, [since, until]) in shown.iter().copied() {
                let known: Vec<_> = (*since..=*until).map(|time| world.relation(event, time)).collect();
                let could_be = [0, 1].map(|side| known.iter().any(|relation| relation[side]));
                prop_assert_eq!(could_be, [true; 2], "shown to others: {}", told);
            }
            let mut always = event.created_at()..=world.time;
            let is_always = always.all(|time| world.relation(event, time) == [true; 2]);
            if is_always && !world.overtaking.iter().any(is) {
                prop_assert_eq!(shown.len(), 1, "not shown: {}", told);
            }
        }
    }
}

#[test]
fn what_was_heard_goes_on_until_a_doubt_or_another_acknowledgement() {
    let heard = |hearings: &[Option<Hearing>]| Heard::of(hearings);
    let then = heard(&[Some((3, 7)), Some((3, 9))]).unwrap();
    assert_eq!(then, Heard { node: 3, last: 9 });
    assert_eq!(heard(&[Some((3, 7)), None]), None);
    assert_eq!(heard(&[Some((3, 7)), Some((4, 9))]), None);
    assert!(heard(&[Some((3, 7))]).unwrap().goes_on(then));
    assert!(!heard(&[Some((3, 10))]).unwrap().goes_on(then), "not subscribed to in between");
    assert!(!heard(&[Some((4, 7))]).unwrap().goes_on(then), "in doubt in between");
}

#[test]
fn a_break_while_the_circle_is_read_has_it_read_anew() {
    let (before, after) = (Heard { node: 0, last: 0 }, Heard { node: 1, last: 0 });
    let is_due = |heard| {
        let mut watch = Watch::default();
        watch.begin();
        watch.end(Some((Circle::default(), heard)), &[]);
        watch.is_due()
    };
    assert!(is_due(Some((before, after))));
    // Where nothing is heard, reading it again says no more.
    assert!(!is_due(Some((after, after))) && !is_due(None));
}

#[test]
fn what_waits_is_bounded() {
    let keys = Keys::generate();
    let event = Arc::new(keys.sign(1, kind::ACTIVITY, Tags::default(), ""));
    let mut watch = Watch::default();
    let most = 2 * event.json().len();
    assert_eq!([(); 3].map(|()| watch.hold(1, Arc::clone(&event), most)), [Ok(()), Ok(()), Err(TooMuch)]);
    assert!(watch.is_due());
    watch.begin();
    (0..=MAX_CHANGES).for_each(|_| watch.change(&event, &[]));
    // Too much has come meanwhile, so it is read once more.
    watch.end(Some((Circle::default(), Some((Heard::default(), Heard::default())))), &[]);
    assert!(watch.circle().is_none() && watch.is_due());
}
