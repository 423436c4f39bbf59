//! What systemd's fd store has kept of this service over its restart: listeners that the service had bound itself, and connections.
//!
//! Connections all have one name, as short as can be: the names of all descriptors share one environment string. The name of a
//! listener holds all that has to be known of it, so storing a listener again replaces it, and it is stored once.

use std::{
    fmt::Write as _,
    os::fd::{AsFd, OwnedFd},
    path::absolute,
};

use super::{
    exported::ExportedSocket,
    names::{CONNECTIONS_NAME, check_name},
    slot::Slot,
};
use crate::{
    addr::ListenAddr,
    log,
    sys::{path::CreatedPath, socket::cookie},
};

/// What the name of a listener in the store begins with.
const LISTENER_PREFIX: &str = "aa.l";

/// What came from the store and is no socket of the set, and which listeners the store has.
#[derive(Debug, Default)]
pub(super) struct StoredFds {
    /// Connections and their journals, until the server takes them.
    pub(super) connections: Vec<OwnedFd>,
    pub(super) listeners: Vec<StoredListener>,
}

/// A listener in the store: its name there, and which socket it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredListener {
    pub(super) name: String,
    cookie: Option<u64>,
}

impl StoredListener {
    pub(super) fn new(name: &str, socket: impl AsFd) -> Self {
        Self { name: name.to_owned(), cookie: cookie(socket).ok() }
    }
}

impl StoredFds {
    /// Sorts a passed descriptor: the slot of a listener that is used again, or `None` for one that is set apart or closed.
    ///
    /// # Errors
    ///
    /// The descriptor, if this crate has not stored it.
    pub(super) fn sort(&mut self, name: &str, fd: OwnedFd) -> Result<Option<Slot>, OwnedFd> {
        if name == CONNECTIONS_NAME {
            self.connections.push(fd);
            return Ok(None);
        }
        let Some((listener, file)) = parse(name) else { return Err(fd) };
        self.listeners.push(StoredListener::new(name, &fd));
        Ok(restored(&listener, fd, file))
    }
}

/// The name under which the store has `socket`; `None` where that is too long.
pub(super) fn name_in_store(socket: &ExportedSocket) -> Option<String> {
    let file = socket.provenance.created.as_ref().map(|(_, device, inode)| (*device, *inode));
    store_name(&socket.name, file)
}

/// The slot of a stored listener. One whose path is gone is closed, as no client can find it.
fn restored(name: &str, fd: OwnedFd, file: Option<(u64, u64)>) -> Option<Slot> {
    let mut slot = Slot::restored(name, fd);
    if let (Some((device, inode)), Some(ListenAddr::Unix(path))) = (file, slot.info.addr()) {
        let path = CreatedPath::of_another(absolute(path).ok()?, device, inode);
        if !path.is_still_ours() {
            log::info!(socket = %slot.info, "the path of a stored socket is gone, so it is closed");
            return None;
        }
        slot.set_path(path);
    }
    slot.info.is_listening().then_some(slot)
}

/// `aa.l/NAME`, with the device and inode of its path if it has one; `None` where that is too long.
pub(super) fn store_name(name: &str, file: Option<(u64, u64)>) -> Option<String> {
    let mut text = LISTENER_PREFIX.to_owned();
    if let Some((device, inode)) = file {
        let _ = write!(text, "+{device:x}+{inode:x}");
    }
    text.push('/');
    for byte in name.bytes() {
        let plain = byte.is_ascii_graphic() && byte != b':' && byte != b'%';
        let _ = if plain { write!(text, "{}", char::from(byte)) } else { write!(text, "%{byte:02x}") };
    }
    check_name(&text).is_ok().then_some(text)
}

/// What [`store_name`] made.
pub(super) fn parse(text: &str) -> Option<(String, Option<(u64, u64)>)> {
    let (file, name) = text.strip_prefix(LISTENER_PREFIX)?.split_once('/')?;
    let file = match file.strip_prefix('+') {
        None if file.is_empty() => None,
        None => return None,
        Some(file) => {
            let (device, inode) = file.split_once('+')?;
            Some((u64::from_str_radix(device, 16).ok()?, u64::from_str_radix(inode, 16).ok()?))
        }
    };
    Some((unescaped(name)?, file))
}

fn unescaped(text: &str) -> Option<String> {
    let (mut name, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'%' => u8::from_str_radix(std::str::from_utf8(&[bytes.next()?, bytes.next()?]).ok()?, 16).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_store_says_what_the_listener_is_called_and_which_file_it_has() {
        for (name, file, text) in [
            ("http", None, "aa.l/http"),
            ("", None, "aa.l/"),
            ("a/b+c", Some((0xfe01, 0x2f3a)), "aa.l+fe01+2f3a/a/b+c"),
            ("[::1]:80 %ä", Some((0, u64::MAX)), "aa.l+0+ffffffffffffffff/[%3a%3a1]%3a80%20%25%c3%a4"),
        ] {
            assert_eq!(store_name(name, file).as_deref(), Some(text));
            assert_eq!(parse(text), Some((name.to_owned(), file)));
        }
        assert_eq!(store_name(&"x".repeat(251), None), None);
    }

    #[test]
    fn other_names_are_those_of_others() {
        for text in
            ["http", "aa.c", "aa.l", "aa.lx/http", "aa.l+1/http", "aa.l+1+x/http", "aa.l/%", "aa.l/%f", "aa.l/%ff"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
