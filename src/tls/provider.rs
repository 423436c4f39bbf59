//! Which provider of cryptography a service uses that names none.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::{Error, Kind};

/// What the fix is where it is not clear.
const FIX: &str =
    "name one with Tls::provider(..), or make one the default of the process with CryptoProvider::install_default";

/// The default one of the process, and else the one that is compiled in.
pub(super) fn of_the_process() -> Result<Arc<CryptoProvider>, Error> {
    match CryptoProvider::get_default() {
        Some(provider) => Ok(Arc::clone(provider)),
        None => compiled_in(),
    }
}

fn compiled_in() -> Result<Arc<CryptoProvider>, Error> {
    let mut providers: Vec<CryptoProvider> = Vec::new();
    #[cfg(feature = "tls-ring")]
    providers.push(rustls::crypto::ring::default_provider());
    #[cfg(feature = "tls-aws-lc-rs")]
    providers.push(rustls::crypto::aws_lc_rs::default_provider());
    let problem = match (providers.pop(), providers.is_empty()) {
        (Some(provider), true) => return Ok(Arc::new(provider)),
        (Some(_), false) => "ring and aws-lc-rs are both compiled in",
        (None, _) => "no provider of cryptography is compiled in (features tls-ring and tls-aws-lc-rs)",
    };
    let problem = format!("{problem}, and the process has no default one; {FIX}");
    Err(Kind::Tls { what: "TLS".to_owned(), problem, source: None }.into())
}
