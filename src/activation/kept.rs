//! What the service manager kept of this service over its restart: listeners that it had bound itself, and connections.
//!
//! Connections all have one name, as short as can be: the names of all descriptors share one environment string. The name of a
//! listener says all there is to know of it, so that it can be kept as often as one likes and is kept once.

use std::{
    fmt::Write as _,
    io,
    os::fd::{AsFd, OwnedFd},
    path::absolute,
    sync::{MutexGuard, PoisonError},
};

use super::{ActivatedListeners, environment::check_name, slot::Slot, succession::Heirloom};
use crate::{
    addr::{AskedAddr, ListenAddr},
    error::Error,
    listener::{self, Bound, ListenOptions},
    log,
    sys::{path::CreatedPath, socket::cookie},
};

/// The name of every connection in the store, and of what is known of them.
pub(crate) const CONNECTIONS_NAME: &str = "aa.c";

/// What the name of a listener in the store begins with.
const LISTENER_PREFIX: &str = "aa.l";

/// What came from the store, and is no socket of the set.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Connections and their journals, until somebody takes them.
    connections: Vec<OwnedFd>,
    /// Which listeners the manager has.
    listeners: Vec<Stored>,
}

/// A listener in the store: its name there, and which socket it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    name: String,
    cookie: Option<u64>,
}

impl Stored {
    fn new(name: &str, socket: impl AsFd) -> Self {
        Self { name: name.to_owned(), cookie: cookie(socket).ok() }
    }
}

impl Kept {
    /// The socket if it is a listener that is to be used again, and `None` if it is set apart; not ours, and both come back.
    pub(super) fn sort(&mut self, name: &str, fd: OwnedFd) -> Result<Option<Slot>, OwnedFd> {
        if name == CONNECTIONS_NAME {
            self.connections.push(fd);
            return Ok(None);
        }
        let Some((listener, file)) = parse(name) else { return Err(fd) };
        self.listeners.push(Stored::new(name, &fd));
        Ok(revived(&listener, fd, file))
    }
}

impl ActivatedListeners {
    /// The connections that the manager has kept, with what is known of them; once.
    pub(crate) fn take_kept_connections(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.kept().connections)
    }

    /// Has `keep` keep a duplicate of each listener that this process or one before it bound, `most` of them, under the name that it
    /// is given. From then on the manager has them too. First has `forget` forget what the manager has and nobody wants any more.
    /// Returns how long these names are, one by one.
    pub(crate) fn keep_listeners(
        &self,
        most: usize,
        forget: impl FnMut(&str),
        keep: impl FnMut(&str, OwnedFd),
    ) -> io::Result<Vec<usize>> {
        let name = |heirloom: &Heirloom| {
            let file = heirloom.origin.created.as_ref().map(|(_, device, inode)| (*device, *inode));
            store_name(&heirloom.name, file)
        };
        self.keep_as(name, most, forget, keep)
    }

    /// Has the manager keep what it keeps of this set under the names that a plain successor knows it by.
    pub(crate) fn keep_listeners_plainly(
        &self,
        forget: impl FnMut(&str),
        keep: impl FnMut(&str, OwnedFd),
    ) -> io::Result<()> {
        let most = self.kept().listeners.len();
        self.keep_as(|heirloom| Some(heirloom.variable_name().to_owned()), most, forget, keep).map(drop)
    }

    fn keep_as(
        &self,
        name: impl Fn(&Heirloom) -> Option<String>,
        most: usize,
        forget: impl FnMut(&str),
        mut keep: impl FnMut(&str, OwnedFd),
    ) -> io::Result<Vec<usize>> {
        let mut slots = self.lock();
        let (mut stored, mut listeners) = (Vec::new(), Vec::new());
        for slot in slots.iter_mut().filter(|slot| !slot.info.is_passed()) {
            let Some(heirloom) = slot.heirloom()? else { continue };
            let name = name(&heirloom).filter(|_| stored.len() < most);
            slot.set_kept(name.is_some());
            match name {
                Some(name) => {
                    stored.push(Stored::new(&name, &heirloom.fd));
                    listeners.push(heirloom.fd);
                }
                None if most > 0 => log::warn!(socket = %slot.info, "the fd store has no room for this socket"),
                None => {}
            }
        }
        let before = std::mem::replace(&mut self.kept().listeners, stored.clone());
        before.iter().filter(|listener| !stored.contains(listener)).map(|listener| &*listener.name).for_each(forget);
        stored.iter().zip(listeners).for_each(|(listener, fd)| keep(&listener.name, fd));
        Ok(stored.iter().map(|listener| listener.name.len()).collect())
    }

    /// Gives what was kept the name that its address has now among `fallbacks`: under the one it had nobody asks for it, and its
    /// address could not be bound beside it.
    pub(super) fn rename_kept(&self, fallbacks: &[(&str, &AskedAddr)]) {
        let mut slots = self.lock();
        let passed: Vec<_> =
            slots.iter().filter(|slot| slot.info.is_passed()).map(|slot| slot.info.shared_name()).collect();
        for slot in slots.iter_mut().filter(|slot| slot.is_revived()) {
            if fallbacks.iter().any(|(name, addr)| slot.info.name() == *name && is_at(slot, addr)) {
                continue;
            }
            let same = |addr: &AskedAddr| slot.info.addr().is_some_and(|bound| addr.means(bound));
            let now =
                fallbacks.iter().find(|(name, addr)| same(addr) && !passed.iter().any(|passed| **passed == **name));
            if let Some((name, _)) = now {
                log::info!(socket = %slot.info, name, "the address of a kept socket has another name now");
                slot.rename(name);
            }
        }
    }

    /// Binds `addr`. What was kept and is in the way is closed for it, unless its name is `wanted`: the manager has it too, and would
    /// pass it to one process after the other, none of which could start.
    pub(super) fn bind_in_place(
        &self,
        addr: &AskedAddr,
        options: &ListenOptions,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Bound, Error> {
        match listener::bind(addr, options) {
            Err(error) if error.is_address_in_use() && self.close_in_the_way(addr, wanted) => {
                listener::bind(addr, options)
            }
            bound => bound,
        }
    }

    /// Closes what was kept under `name` and is at none of these addresses, so that they can be bound.
    pub(super) fn close_relocated(&self, name: &str, addrs: &[&AskedAddr]) {
        let mut slots = self.lock();
        slots.retain_mut(|slot| {
            let stays = slot.info.name() != name || !slot.is_revived() || addrs.iter().any(|addr| is_at(slot, addr));
            if !stays {
                log::info!(socket = %slot.info, "closed a kept socket, its name has another address now");
                slot.stop_listening();
            }
            stays
        });
    }

    /// Whether there is a socket of that name, and for what an earlier process of this service bound: at that address.
    pub(super) fn provides(&self, name: &str, addr: &AskedAddr) -> bool {
        let slots = self.lock();
        let mut namesakes = slots.iter().filter(|slot| slot.info.name() == name);
        namesakes.any(|slot| !(slot.is_revived() || slot.is_of_predecessor()) || is_at(slot, addr))
    }

    /// Whether an earlier process of this service bound anything that is still free: addresses say then what becomes of it.
    pub(super) fn has_revived(&self) -> bool {
        self.lock().iter().any(|slot| slot.is_revived() || slot.is_of_predecessor())
    }

    /// Whether there was any.
    fn close_in_the_way(&self, addr: &AskedAddr, wanted: impl Fn(&str) -> bool) -> bool {
        let mut slots = self.lock();
        let before = slots.len();
        slots.retain_mut(|slot| {
            let is_over = slot.is_revived() && !wanted(slot.info.name());
            let stays = !is_over || !slot.info.addr().is_some_and(|bound| addr.overlaps(bound));
            if !stays {
                log::info!(socket = %slot.info, addr = %addr.addr(), "closed a kept socket, it is in the way of another address");
                slot.stop_listening();
            }
            stays
        });
        slots.len() < before
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.set.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a kept socket is what somebody gets who binds `addr`; any port will do for port 0.
pub(super) fn is_at(slot: &Slot, addr: &AskedAddr) -> bool {
    let any_port = matches!(addr.addr(), ListenAddr::Tcp(addr) if addr.port() == 0)
        || matches!(addr.addr(), ListenAddr::Port(0) | ListenAddr::Host { port: 0, .. });
    slot.info.addr().is_some_and(|bound| addr.means(bound) || any_port && matches!(bound, ListenAddr::Tcp(_)))
}

/// A listener as it was, unless the path is gone that led to it: nobody would ever find it.
fn revived(name: &str, fd: OwnedFd, file: Option<(u64, u64)>) -> Option<Slot> {
    let mut slot = Slot::revived(name, fd);
    if let (Some((device, inode)), Some(ListenAddr::Unix(path))) = (file, slot.info.addr()) {
        let path = CreatedPath::of_another(absolute(path).ok()?, device, inode);
        if !path.is_still_ours() {
            log::info!(socket = %slot.info, "the path of a kept socket is gone, so it is closed");
            return None;
        }
        slot.set_path(path);
    }
    slot.info.is_listening().then_some(slot)
}

/// `aa.l/NAME`, with the device and inode of its path if it has one; `None` where that is too long.
fn store_name(name: &str, file: Option<(u64, u64)>) -> Option<String> {
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
fn parse(text: &str) -> Option<(String, Option<(u64, u64)>)> {
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
