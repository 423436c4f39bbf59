//! Listening on vsock; there is no loopback to connect through in every kernel, so no test does.

use axum_activation::{ActivatedListeners, ListenAddr, PeerAddr, SocketFamily, SocketKind};

/// `VMADDR_PORT_ANY` of `vsock(7)`: the kernel chooses.
const ANY_PORT: &str = "vsock::4294967295";

fn check_device() {
    assert!(std::fs::exists("/dev/vsock").unwrap(), "/dev/vsock is missing: modprobe vsock (and vsock_loopback)");
}

#[tokio::test]
async fn a_vsock_port_is_listened_on() {
    check_device();
    let set = ActivatedListeners::builder().fallback("http", ANY_PORT).build().unwrap();
    assert_eq!(set.iter().next().unwrap().kind(), SocketKind::Listener(SocketFamily::Vsock));
    let listener = set.one("http").unwrap();
    let [ListenAddr::Vsock { cid: u32::MAX, port }] = listener.local_addrs()[..] else {
        panic!("unexpected address: {listener:?}");
    };
    assert_ne!(port, u32::MAX);
    assert_eq!(axum::serve::Listener::local_addr(&listener).unwrap(), PeerAddr::Vsock { cid: u32::MAX, port });
    assert_eq!(
        format!("{listener:?}"),
        format!("ActivatedListener {{ name: \"http\", addrs: [\"vsock::{port}\"], .. }}")
    );
}

#[tokio::test]
async fn a_vsock_port_in_use_is_refused() {
    check_device();
    let set = ActivatedListeners::builder().build().unwrap();
    let listener = set.listen(&ANY_PORT.parse().unwrap()).unwrap();
    let error = set.listen(&listener.local_addrs()[0]).unwrap_err();
    assert!(error.is_address_in_use(), "{error}");
}

#[tokio::test]
async fn a_passed_vsock_socket_waits_for_connections() {
    check_device();
    let bound = ActivatedListeners::builder().fallback("http", ANY_PORT).build().unwrap();
    let socket = bound.files("http").unwrap().remove(0);
    let set = ActivatedListeners::builder().socket("http", socket).build().unwrap();
    let mut listener = set.one("http").unwrap();
    let accepting = tokio::time::timeout(std::time::Duration::from_millis(1), listener.accept());
    assert!(accepting.await.is_err());
}
