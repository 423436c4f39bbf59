//! What a set knows of a handoff in a build without the feature `handoff`: there is none, and nothing follows.

use std::os::fd::OwnedFd;

use super::set::ActivatedListeners;
use crate::{addr::AskedAddr, error::Error, log};

impl ActivatedListeners {
    /// Closes the control socket, by which the old process sees that this one takes no part: it rolls back, and serves on.
    #[expect(clippy::unused_self, reason = "with the feature, the set keeps the socket")]
    pub(super) fn link(&self, control: OwnedFd) {
        log::warn!(
            "an old process hands over to this one, which is built without the feature `handoff` of axum-activation: the old one \
             rolls back and serves on; build this program with that feature, or restart the service instead"
        );
        drop(control);
    }

    #[expect(clippy::unused_self, reason = "with the feature, the set knows")]
    pub(super) fn has_predecessor(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "with the feature, the set closes them")]
    pub(super) fn close_replaced(&self, _name: &str, _addrs: &[&AskedAddr]) {}

    #[expect(clippy::unused_self, reason = "with the feature, the set explains")]
    pub(super) fn explain_replaced(&self, error: Error, _name: &str, _addr: &AskedAddr) -> Error {
        error
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn the_old_process_sees_its_control_socket_closed() {
        let (mut old, new) = UnixStream::pair().unwrap();
        let set = ActivatedListeners::new(Vec::new());
        set.link(new.into());
        assert_eq!(old.read(&mut [0]).unwrap(), 0);
        assert!(!set.has_predecessor());
    }
}
