//! Both sides over real socket pairs, in one process; a scripted peer in place of either.

mod broken;
mod carried;
mod child;
mod codec;
mod endings;
mod hostile_new;
mod hostile_old;
mod limits;
mod support;
mod version_1;
mod version_2;
mod whole;
