//! Listeners that the service binds itself.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::Path,
};

use rustix::process::{Pid, Signal, kill_process};

use super::service::{Service, free_address};

#[test]
fn a_listener_outlives_a_process_that_is_killed_with_who_waits_in_its_queue() {
    let mut service = Service::new();
    let child = service.start();
    service.connect();
    child.signal(Signal::KILL);
    drop(child);
    service.look();
    let mut waiting = TcpStream::connect(&service.address).expect("the manager has the socket");
    waiting.write_all(b"GET /2 HTTP/1.0\r\n\r\n").unwrap();
    let _child = service.start();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n2"), "{answer}");
    service.look();
    assert_eq!(service.names(), ["aa.l/http"], "the same socket is stored once");
}

#[test]
fn a_service_that_is_given_another_address_listens_there_and_no_longer_where_it_did() {
    let mut service = Service::new();
    let child = service.start();
    service.stop(child);
    let old = std::mem::replace(&mut service.address, free_address().to_string());
    let _child = service.start();
    service.connect();
    assert!(TcpStream::connect(&old).is_err(), "no process would ever serve it");
    service.has_one_listener();
    assert!(service.manager.texts().iter().any(|text| text == "FDSTOREREMOVE=1\nFDNAME=aa.l/http\n"));
}

#[test]
fn a_service_that_is_to_listen_everywhere_can_though_the_manager_still_has_the_old_socket() {
    let mut service = Service::new();
    let child = service.start();
    service.stop(child);
    let port = service.address.rsplit(':').next().unwrap().to_owned();
    let specific = std::mem::replace(&mut service.address, format!("0.0.0.0:{port}"));
    let _child = service.start();
    service.address = specific;
    service.connect();
}

#[test]
fn a_listener_whose_name_has_changed_is_kept_under_the_new_one_with_who_waits_in_its_queue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock").to_str().unwrap().to_owned();
    for address in [free_address().to_string(), path] {
        let mut service = Service::at(address);
        let child = service.start();
        service.stop(child);
        let mut waits = service.open();
        waits.write_all(b"GET /names HTTP/1.0\r\n\r\n").unwrap();
        service.name = "web".to_owned();
        let _child = service.start();
        let mut answer = String::new();
        waits.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nweb"), "{answer}");
        service.has_one_listener();
        assert!(service.names()[0].ends_with("/web"), "{:?}", service.names());
    }
}

#[test]
fn a_listener_that_has_neither_name_nor_address_any_more_is_in_no_ones_way() {
    let mut service = Service::new();
    let child = service.start();
    service.stop(child);
    let port = service.address.rsplit(':').next().unwrap().to_owned();
    let specific = std::mem::replace(&mut service.address, format!("0.0.0.0:{port}"));
    service.name = "web".to_owned();
    let _child = service.start();
    service.address = specific;
    service.connect();
    service.has_one_listener();
}

#[test]
fn the_path_of_a_unix_socket_stays_and_who_connects_to_it_meanwhile_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let mut service = Service::at(path.to_str().unwrap().to_owned());
    let child = service.start();
    let inode = inode(&path);
    let mut kept = UnixStream::connect(&path).unwrap();
    assert_eq!(ask(&mut kept, "1"), "1");
    service.stop(child);
    assert_eq!(service.names().len(), 3);
    let mut waits = UnixStream::connect(&path).expect("the manager has the socket");
    let child = service.start();
    assert_eq!(ask(&mut kept, "2"), "2");
    assert_eq!(ask(&mut waits, "3"), "3");
    assert_eq!(self::inode(&path), inode);
    service.stop(child);

    // The directory was cleared: no client would ever find the old socket.
    std::fs::remove_file(&path).unwrap();
    let _child = service.start();
    assert_eq!(ask(&mut UnixStream::connect(&path).unwrap(), "4"), "4");
    service.has_one_listener();
}

#[test]
fn a_plain_successor_finds_the_listener_under_the_name_that_it_knows_also_after_a_crash() {
    let mut service = Service::new();
    service.plain = true;
    let mut child = service.start();
    service.look();
    assert_eq!(service.names(), ["aa.l/http"]);
    child.signal(Signal::HUP);
    service.manager.wait("there is a successor", |manager| manager.values("MAINPID").len() == 1);
    let main: i32 = service.manager.values("MAINPID")[0].parse().unwrap();
    assert!(child.wait().success());
    service.look();
    assert_eq!(service.names(), ["http"]);
    let texts = service.manager.texts();
    let stored = texts.iter().rposition(|text| text.contains("FDSTORE=1"));
    assert!(
        stored < texts.iter().position(|text| text.contains("MAINPID=")),
        "this process may say it no more: {texts:?}"
    );
    kill_process(Pid::from_raw(main).unwrap(), Signal::KILL).unwrap();
    let _child = service.start_deaf();
    assert_eq!(service.connect().get("/names").unwrap().text(), "http");
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

fn ask(stream: &mut UnixStream, id: &str) -> String {
    write!(stream, "GET /{id} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
}
