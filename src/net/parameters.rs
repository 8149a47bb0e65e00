//! What stands after `?` in the address of a question.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use serde::de::DeserializeOwned;

use super::Problem;

/// The parameters of a question, of which each may be left out. One that is not as it should be is named.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Parameters<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request.query_string()).map(Self))
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_urlencoded::from_str(text).map_err(|error| {
        // The error does not say which it is about, and each can be read without the others.
        let wrong = text.split('&').find(|one| serde_urlencoded::from_str::<T>(one).is_err());
        let name = wrong.and_then(|one| url::form_urlencoded::parse(one.as_bytes()).next());
        match name {
            Some((name, _)) => Problem::unfit(format!("{name} is not as it should be: {error}")).about(&name),
            None => Problem::unfit(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Which {
        limit: Option<usize>,
        after: Option<String>,
    }

    #[test]
    fn what_is_wrong_is_named() {
        let both = Which { limit: Some(5), after: Some("a b".into()) };
        assert_eq!(read::<Which>("limit=5&after=a+b&other=1").unwrap(), both);
        assert_eq!(read::<Which>("").unwrap(), Which { limit: None, after: None });
        for text in ["limit=abc", "after=1&limit=-1", "limit=", "limit", "limit=99999999999999999999"] {
            let problem = read::<Which>(text).unwrap_err();
            assert_eq!((problem.word(), problem.field.as_deref()), ("unfit", Some("limit")), "{text}");
        }
        assert_eq!(read::<Which>("limit=1&limit=2").unwrap_err().field, None);
    }
}
