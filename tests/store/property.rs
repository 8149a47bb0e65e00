//! A store and the model live through the same story and must say the same.

use std::{collections::HashMap, env, sync::Arc, time::Duration};

use proptest::test_runner::{Config, TestRunner};
use rookery::{
    protocol::{Event, EventId},
    store::{Cursor, End, Query, memory::Memory},
};

use crate::{
    subject::{Answer, Open, Subject, filter, query},
    universe::{BEGINNING, Case, Step, cases},
};

/// How many stories are told unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 100;
/// The same where each answer comes from a server: a story takes it a second.
const DISTANT_CASES: u32 = 20;

pub fn agrees_with_the_model(open: Open) {
    // As many histories as PROPTEST_CASES says.
    common::watch::allow(Duration::from_secs(3_600));
    let usual = if open().is_distant { DISTANT_CASES } else { CASES };
    let cases_wanted = env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let config = Config { cases: cases_wanted, failure_persistence: None, ..Config::default() };
    let told = TestRunner::new(config).run(&cases(), |case| {
        tell(&case, &open());
        Ok(())
    });
    if let Err(failure) = told {
        panic!("{failure}");
    }
}

fn tell(case: &Case, store: &Subject) {
    let events = case.events();
    let model = Subject::new(Memory::with_page(1));
    let mut now = BEGINNING;
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Write(batch) => {
                let batch: Vec<&Arc<Event>> = batch.iter().map(|&index| &events[index]).collect();
                let expected = model.write_at(now, batch.iter().copied());
                let written = store.write_at(now, batch);
                assert_eq!(written.outcomes, expected.outcomes, "step {number}");
            }
            Step::Query(question, cut) => {
                let query = question.at(now, &events);
                compare(number, &events, &query, &model.answer(query.clone()), &store.answer(query.clone()));
                if let Some(cursor) = cursor_after(&model, &query, *cut) {
                    let expected = model.answer_from(query.clone(), cursor.clone());
                    let rest = store.answer_from(query.clone(), cursor);
                    compare(number, &events, &query, &expected, &rest);
                }
            }
            Step::Count(question) => {
                let query = question.at(now, &events);
                assert_eq!(store.count(query.clone()), model.count(query), "step {number}");
            }
            Step::Maintain => {
                model.maintain(now);
                store.maintain(now);
            }
            Step::Wait(seconds) => now += seconds,
        }
        let everything = Query { now, ..query([filter("{}")]) };
        let (expected, answer) = (model.answer(everything.clone()), store.answer(everything.clone()));
        compare(number, &events, &everything, &expected, &answer);
    }
    let everything = Query { now, ..query([filter("{}")]) };
    let expected = model.answer(everything.clone());
    assert_eq!(store.keys_alone(everything), (expected.ids, expected.end));
}

/// Where the model stands after some pages; `None` if it has finished before.
fn cursor_after(model: &Subject, query: &Query, pages: usize) -> Option<Cursor> {
    let query = Arc::new(query.clone());
    let mut cursor = Cursor::start(&query);
    for _ in 0..pages {
        cursor = model.block_on(model.store().query(query.clone(), cursor)).unwrap().next?;
    }
    Some(cursor)
}

fn compare(step: usize, events: &[Arc<Event>], query: &Query, expected: &Answer, answer: &Answer) {
    let places: HashMap<EventId, usize> =
        events.iter().enumerate().map(|(index, event)| (event.id(), index)).collect();
    let names = |answer: &Answer| -> Vec<String> {
        answer.ids.iter().map(|id| places.get(id).map_or(id.to_hex(), |index| format!("#{index}"))).collect()
    };
    assert_eq!(names(answer), names(expected), "step {step}: the answer, then what the model says");
    assert_eq!(answer.json, expected.json, "step {step}");
    // Where nothing is wanted of a filter, nobody has to look.
    let unknown = answer.end == End::Unknown && query.filters.iter().any(|&(_, limit)| limit.events == 0);
    assert!(answer.end == expected.end || unknown, "step {step}: {:?}, not {:?}", answer.end, expected.end);
}
