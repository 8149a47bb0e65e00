//! What is told to somebody for whom the feed has not done what was asked.

use actix_web::http::StatusCode;

use crate::{feed::FeedError, net::Problem, protocol::Prefix};

/// When it is worth trying again what the store had no room for.
const SOON: u64 = 2;

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        let told = error.to_string();
        match error {
            FeedError::Refused(reason) => match reason.prefix {
                Prefix::Error => Self::unavailable(told).after(SOON),
                Prefix::RateLimited => slow_down(told, 1),
                _ => {
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "the relay does not take it", told)
                }
            },
            FeedError::Unfit { field, .. } => Self::unfit(told).about(field),
            FeedError::NotFound(_) => Self::not_found(told),
            FeedError::NotYours => {
                Self::new(StatusCode::FORBIDDEN, "not-yours", "it is somebody else's", told)
            }
            FeedError::TooFast { seconds } => slow_down(told, seconds),
            FeedError::Overloaded => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "not now", told).after(SOON)
            }
            FeedError::Unknown | FeedError::Store(_) => Self::unavailable(told).after(SOON),
            FeedError::Account(refused) => refused.into(),
            FeedError::Shrunk { list, .. } => {
                let list = list.map_or_else(|| "none".to_owned(), |list| list.to_hex());
                let detail =
                    format!("{told}; to go on from the list that stands, ask again with ?confirm={list}");
                let problem = Self::new(StatusCode::CONFLICT, "shrunk", "your list is a lot shorter", detail);
                Self { free: [list].into(), ..problem }
            }
        }
    }
}

fn slow_down(told: String, seconds: u64) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "slow-down", "too fast", told).after(seconds)
}
