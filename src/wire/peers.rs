//! Which users a process hands over to, and takes over from.

use crate::sys::{path::is_own_user, peer, seqpacket};

/// The users beside this process's own that the other process of a handoff may run as (`handoff_peers`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers(Vec<u32>);

impl Peers {
    /// Adds users.
    pub(crate) fn extend(&mut self, users: &[u32]) {
        self.0.extend(users);
    }

    /// Whether no other user is named. If one is, the mode of the path lets every user in, and the kernel says which user connects.
    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this process takes over from a process of `user`. Root is no exception: a process that runs as root gives what it takes
    /// over rights that the other user does not have. A user number that stands for many users is not a named one.
    pub(crate) fn may_serve(&self, user: u32) -> bool {
        (user == seqpacket::own_user() || self.0.contains(&user)) && peer::is_one_user(user)
    }

    /// Whether a process of `user` may ask this one for a handoff. Root can do anything to this process anyway.
    pub(crate) fn may_come(&self, user: u32) -> bool {
        user == 0 || self.may_serve(user)
    }

    /// Whether a file of `user` may stand where this process has its own: its user's, root's, or that of a process that it takes
    /// over from.
    pub(crate) fn may_own(&self, user: u32) -> bool {
        is_own_user(user) || self.0.contains(&user)
    }
}

#[cfg(test)]
impl From<Vec<u32>> for Peers {
    fn from(users: Vec<u32>) -> Self {
        Self(users)
    }
}
