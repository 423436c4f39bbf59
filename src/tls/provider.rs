//! Which provider of cryptography a service uses that names none.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::{Error, Kind};

/// What the fix is where it is not clear.
const FIX: &str = "name one with Tls::provider(..), or make one the default of the process with CryptoProvider::install_default";

/// The default one of the process, and else the one that is compiled in.
pub(super) fn of_the_process() -> Result<Arc<CryptoProvider>, Error> {
    match CryptoProvider::get_default() {
        Some(provider) => Ok(Arc::clone(provider)),
        None => compiled_in(),
    }
}

#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc-rs")))]
fn compiled_in() -> Result<Arc<CryptoProvider>, Error> {
    Ok(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(all(feature = "tls-aws-lc-rs", not(feature = "tls-ring")))]
fn compiled_in() -> Result<Arc<CryptoProvider>, Error> {
    Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(all(feature = "tls-aws-lc-rs", feature = "tls-ring"))]
fn compiled_in() -> Result<Arc<CryptoProvider>, Error> {
    Err(unclear("ring and aws-lc-rs are both compiled in, and the process has no default provider of cryptography"))
}

#[cfg(not(any(feature = "tls-aws-lc-rs", feature = "tls-ring")))]
fn compiled_in() -> Result<Arc<CryptoProvider>, Error> {
    Err(unclear(
        "no provider of cryptography is compiled in, and the process has no default one; turn on the feature tls-ring or tls-aws-lc-rs",
    ))
}

#[cfg(any(all(feature = "tls-aws-lc-rs", feature = "tls-ring"), not(any(feature = "tls-aws-lc-rs", feature = "tls-ring"))))]
fn unclear(problem: &str) -> Error {
    Kind::Tls { what: "TLS".to_owned(), problem: format!("{problem}; {FIX}"), source: None }.into()
}
