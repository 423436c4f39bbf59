//! The program that is to be started, and all that it gets.

use std::{
    ffi::{OsString, c_int},
    os::fd::OwnedFd,
    path::PathBuf,
};

/// A program, its arguments and its descriptors.
#[derive(Debug)]
pub(crate) struct Program {
    /// It has a slash, as no directory is searched.
    pub(crate) path: PathBuf,
    /// All arguments, from `argv[0]` on.
    pub(crate) arguments: Vec<OsString>,
    /// The whole environment.
    pub(crate) environment: Vec<(OsString, Value)>,
    /// The working directory.
    pub(crate) directory: PathBuf,
    /// Placed at 3 and up, in this order. They stay in blocking or non-blocking mode as they are.
    pub(crate) fds: Vec<OwnedFd>,
    /// The soft limit of open files; `None` keeps that of this process.
    pub(crate) open_files: Option<u64>,
    /// Signals that the program ignores, beside those that this process ignores.
    pub(crate) ignored: Vec<c_int>,
}

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(OsString),
    /// The process id of the new process.
    OwnPid,
}
