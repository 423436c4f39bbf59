//! Both sides over real socket pairs, in one process.

mod support;
mod whole;
