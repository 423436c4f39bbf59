//! What a subprocess reports of an error.

use axum_activation::Error;
use serde::{Deserialize, Serialize};

/// An error as its users see it: its text, and which of its predicates hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenError {
    pub(crate) text: String,
    pub(crate) is: Vec<String>,
}

impl SeenError {
    /// Panics unless the text contains all of `says`.
    #[track_caller]
    pub(crate) fn assert_says(&self, says: &[&str]) {
        for part in says {
            assert!(self.text.contains(part), "{part:?} is missing in {:?}", self.text);
        }
    }
}

impl From<&Error> for SeenError {
    fn from(error: &Error) -> Self {
        let predicates = [
            ("pid_mismatch", error.is_pid_mismatch()),
            ("invalid_environment", error.is_invalid_environment()),
            ("unknown_name", error.is_unknown_name()),
            ("already_taken", error.is_already_taken()),
            ("wrong_kind", error.is_wrong_kind()),
            ("invalid_address", error.is_invalid_address()),
            ("address_in_use", error.is_address_in_use()),
            ("unserved", error.is_unserved()),
        ];
        let is = predicates.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name.to_owned());
        Self { text: error.to_string(), is: is.collect() }
    }
}

impl From<Error> for SeenError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// What `result` failed with.
#[track_caller]
pub(crate) fn failure<T>(result: Result<T, Error>) -> SeenError {
    match result {
        Ok(_) => panic!("that was to fail"),
        Err(error) => SeenError::from(&error),
    }
}
