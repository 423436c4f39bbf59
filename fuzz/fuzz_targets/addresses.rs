//! The text of an address to listen on, and of one at the other end of a connection.
//!
//! - What parses prints as text that parses to the same.
//! - The standard library reads the same IP address.
//! - What an error suggests to write parses.
//! - A peer is the same behind the binary form that goes to the next process.

#![no_main]

use std::net::SocketAddr;

use axum_activation::{ListenAddr, PeerAddr};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(peer) = postcard::from_bytes::<PeerAddr>(data) {
        same_in_binary(&peer);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<ListenAddr>() {
        Ok(addr) => {
            assert_eq!(addr.to_string().parse::<ListenAddr>().as_ref().ok(), Some(&addr), "{text:?}");
            assert_eq!(addr.socket_addr(), text.parse::<SocketAddr>().ok());
        }
        Err(error) => {
            assert!(error.is_invalid_address());
            assert!(text.parse::<SocketAddr>().is_err());
            suggestion(text, &error.to_string());
        }
    }
    if let Ok(peer) = text.parse::<PeerAddr>() {
        assert_eq!(peer.to_string().parse::<PeerAddr>().as_ref().ok(), Some(&peer), "{text:?}");
        same_in_binary(&peer);
    }
});

/// `.., write :8080; expected ..`
fn suggestion(text: &str, error: &str) {
    let (says, _) = error.rsplit_once("; expected ").expect("it ends with the forms");
    if let Some((_, suggested)) = says.rsplit_once(", write ").filter(|_| !text.contains(", write ")) {
        assert!(suggested.parse::<ListenAddr>().is_ok(), "{says}");
    }
}

fn same_in_binary(peer: &PeerAddr) {
    let bytes = postcard::to_allocvec(peer).expect("every peer is written");
    assert_eq!(postcard::from_bytes::<PeerAddr>(&bytes).as_ref(), Ok(peer));
}
