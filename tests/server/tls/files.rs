//! Certificates: which one a client gets, when files are read again, and which client certificates are taken.

use std::{fs, sync::Arc};

use axum_activation::{drain::HandshakeFailure, tls::rustls::ClientConfig};
use rcgen::SerialNumber;

use super::{Https, ask};
use crate::support::certificates::{Authority, connect, time};

/// The certificate that a client gets that asks for `name`.
fn certificate(https: &Https, config: &Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let mut client = connect(&https.addr, config, name);
    ask(&mut client).unwrap();
    client.conn.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_a_client_asks_for_chooses_its_certificate() {
    let authority = Authority::new();
    let [one, other] = ["one.example", "other.example"].map(|name| authority.issue(name));
    let https = Https::start(one.tls().pem_files(&other.chain, &other.key).build().unwrap());
    let config = Arc::new(authority.client());
    let [first, second] = ["one.example", "other.example"].map(|name| certificate(&https, &config, name));
    assert_ne!(first, second);
    // The client refuses the first certificate for another name.
    let error = ask(&mut connect(&https.addr, &config, "third.example")).unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_new_files_and_keeps_the_old_ones_where_the_new_are_broken() {
    let authority = Authority::new();
    let pair = authority.issue("localhost");
    let tls = pair.tls().build().unwrap();
    let https = Https::start(tls.clone());
    let config = Arc::new(authority.client());
    let first = certificate(&https, &config, "localhost");
    let mut open = https.connect(&config);
    ask(&mut open).unwrap();

    let renewed = authority.issue_with("renewed", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
    });
    pair.replace(&renewed);
    tls.reload().await.unwrap();
    let second = certificate(&https, &Arc::new(authority.client()), "localhost");
    assert_ne!(first, second);
    ask(&mut open).unwrap();

    let expired = authority.issue_with("expired", |params| params.not_after = time(2020, 1, 1));
    pair.replace(&expired);
    let error = tls.reload().await.unwrap_err().to_string();
    assert!(error.contains("localhost.pem expired at 2020-01-01") && error.contains("stays in use"), "{error}");
    fs::write(&pair.chain, "no certificate").unwrap();
    let error = tls.reload().await.unwrap_err().to_string();
    assert!(error.contains("localhost.pem"), "{error}");
    assert_eq!(certificate(&https, &Arc::new(authority.client()), "localhost"), second);
    assert!(tls.expires().is_some());
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_may_be_replaced_by_another_one_and_is_served_meanwhile() {
    let authority = Authority::new();
    let expired = authority.issue_with("localhost", |params| params.not_after = time(2020, 1, 1));
    let tls = expired.tls().build().unwrap();
    let https = Https::start(tls.clone());
    let error = ask(&mut https.connect(&Arc::new(authority.client()))).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    https.wait_for_failures(HandshakeFailure::Alert, 1);
    tls.reload().await.unwrap();
    expired.replace(&authority.issue("renewed"));
    tls.reload().await.unwrap();
    ask(&mut connect(&https.addr, &Arc::new(authority.client()), "renewed")).unwrap();
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_demanded_shown_and_refused_once_it_is_revoked() {
    let authority = Authority::new();
    let server = authority.issue("localhost");
    let own = authority.issue_with("client", |params| params.serial_number = Some(SerialNumber::from(77_u64)));
    let list = authority.revoke(&[1]);
    let tls = server.tls().client_ca_file(authority.file()).client_crl_file(&list).build().unwrap();
    let https = Https::start(tls.clone());
    for version in super::VERSIONS {
        let config = Arc::new(authority.client_with(version, Some(&own)));
        assert!(ask(&mut https.connect(&config)).unwrap().contains("[true]"));
        let resumed = ask(&mut https.connect(&config)).unwrap();
        assert!(resumed.contains("resumed [true]"), "{resumed}");

        authority.revoke(&[77]);
        tls.reload().await.unwrap();
        // Neither anew, nor with the session that it has.
        ask(&mut https.connect(&config)).unwrap_err();
        ask(&mut https.connect(&Arc::new(authority.client_with(version, Some(&own))))).unwrap_err();
        authority.revoke(&[1]);
        tls.reload().await.unwrap();
    }
    ask(&mut https.connect(&Arc::new(authority.client()))).unwrap_err();
    https.wait_for_failures(HandshakeFailure::ClientCertificate, 5);
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_may_be_optional() {
    let authority = Authority::new();
    let (server, own) = (authority.issue("localhost"), authority.issue("client"));
    let tls = server.tls().client_ca_file(authority.file()).optional_client_certificate().build().unwrap();
    let https = Https::start(tls);
    assert!(ask(&mut https.connect(&Arc::new(authority.client()))).unwrap().contains("[]"));
    let config = Arc::new(authority.client_with(super::VERSIONS[1], Some(&own)));
    assert!(ask(&mut https.connect(&config)).unwrap().contains("[true]"));
    https.running.end().await;
}

#[test]
fn two_providers_and_no_default_one_are_an_error_with_the_fix() {
    let pair = Authority::new().issue("localhost");
    let error = axum_activation::tls::Tls::pem_files(&pair.chain, &pair.key).unwrap_err();
    assert!(error.is_tls());
    assert!(error.to_string().contains("Tls::provider(..)"), "{error}");
}
