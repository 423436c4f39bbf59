//! Why a program could not be started, and at which step.

use std::{error::Error, fmt, io};

/// The step at which a start has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Making pipes, copying texts. No process has been made.
    Prepare = 1,
    Fork,
    /// Putting the descriptors in place.
    Descriptors,
    /// Entering the working directory.
    Directory,
    Exec,
}

/// A start that has failed. No process of it is left.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) source: io::Error,
}

impl Step {
    pub(super) const ALL: [Self; 5] = [Self::Prepare, Self::Fork, Self::Descriptors, Self::Directory, Self::Exec];
}

impl Failure {
    pub(super) fn at<E: Into<io::Error>>(step: Step) -> impl Fn(E) -> Self {
        move |source| Self { step, source: source.into() }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.step {
            Step::Prepare => "cannot prepare a new process",
            Step::Fork => "cannot fork",
            Step::Descriptors => "cannot pass the descriptors",
            Step::Directory => "cannot enter the working directory",
            Step::Exec => "cannot execute the program",
        })
    }
}
