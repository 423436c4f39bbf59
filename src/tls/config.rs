//! `Tls`: where the certificates of a listener come from, and how TLS is spoken there.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ServerSessionMemoryCache, StoresServerSessions},
};

use super::{
    certificates::{CertificateFiles, Certificates, Validity},
    provider,
};
use crate::{
    blocking,
    error::{Error, Kind},
    log,
};

/// What a client and this server may speak over TLS (RFC 7301), the best first.
const ALPN_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How many sessions a client may come back with, at a time.
const SESSIONS: usize = 4096;

#[cfg(feature = "server")]
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longer than any handshake: an `Instant` cannot take any duration.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A handshake takes two round trips, or one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS for a listener: certificates, and how handshakes are done. Cheap to clone; a clone [reloads](Self::reload) for all.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum_activation::Error> {
/// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
/// use axum::Router;
/// use axum_activation::{ActivatedListeners, Server, server::ServeOptions, tls::Tls};
///
/// let tls = Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
/// let activated = ActivatedListeners::builder().fallback("https", "127.0.0.1:0").from_env()?;
/// let app = Router::new();
/// let server = Server::new(activated).serve_with("https", app, ServeOptions::new().tls(tls));
/// # server.drain().start();
/// server.run().await?;
/// # Ok(())
/// # }
/// ```
///
/// TLS 1.3 and 1.2 are spoken, and HTTP/2 or HTTP/1.1 over them, as the client chooses (ALPN).
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
    handshake_timeout: Duration,
}

struct Shared {
    source: Source,
    current: RwLock<Current>,
    /// Held while it is read anew, so that the last to begin is the last to be used.
    reloading: Mutex<()>,
}

/// Where a configuration comes from.
enum Source {
    Files(Box<FileSource>),
    /// One that the program has made, which never changes.
    Config,
    Function(Box<dyn Fn() -> Result<Arc<ServerConfig>, String> + Send + Sync>),
}

struct FileSource {
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    /// Survives a reload, so that clients can come back with the sessions that they have. With client certificates it does not: a session
    /// must not outlive the trust in the certificate that it began with.
    sessions: Arc<dyn StoresServerSessions>,
}

/// What handshakes use now.
#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    /// The same for servers that do not speak HTTP/2. A configuration that the program has made is its own affair.
    without_http2: Option<Arc<ServerConfig>>,
    /// `None` where the program has made the configuration.
    certificates: Option<Certificates>,
}

impl Tls {
    /// With the certificate chain and the key of these PEM files, and the provider of cryptography that the process has.
    ///
    /// The provider is the process's default one (`CryptoProvider::install_default`), and else the one that is compiled in with the feature
    /// `tls-ring` or `tls-aws-lc-rs`.
    ///
    /// The files are read now, and again at [`reload`](Self::reload). See [`TlsBuilder::pem_files`].
    ///
    /// ```
    /// use axum_activation::tls::Tls;
    ///
    /// # fn main() -> Result<(), axum_activation::Error> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// let tls = Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
    /// # drop(tls);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A file cannot be read or understood, the key does not belong to the certificate, or it is not clear which provider is meant.
    pub fn pem_files(certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::builder().pem_files(certificates, key).build()
    }

    /// For several certificates, client certificates, or another provider.
    ///
    /// ```
    /// use axum_activation::tls::Tls;
    ///
    /// # fn main() -> Result<(), axum_activation::Error> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// let tls = Tls::builder()
    ///     .pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")
    ///     .pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")
    ///     .client_ca_file("examples/tls/clients.pem")
    ///     .build()?;
    /// # drop(tls);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> TlsBuilder {
        TlsBuilder { provider: None, files: CertificateFiles::default() }
    }

    /// As [`builder`](Self::builder), with this provider of cryptography.
    ///
    /// ```
    /// # fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::tls::{Tls, rustls::crypto::ring};
    ///
    /// let tls = Tls::provider(ring::default_provider())
    ///     .pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")
    ///     .build()?;
    /// # drop(tls);
    /// # Ok(())
    /// # }
    /// ```
    pub fn provider(provider: impl Into<Arc<CryptoProvider>>) -> TlsBuilder {
        TlsBuilder { provider: Some(provider.into()), ..Self::builder() }
    }

    /// With a configuration of rustls that the program has made, ALPN protocols included: with none HTTP/1.1 alone is spoken by most clients.
    ///
    /// TLS 1.3 early data is turned off, as tokio-rustls does not deliver it.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use axum_activation::tls::{Tls, rustls::ServerConfig};
    ///
    /// fn tls(config: Arc<ServerConfig>) -> Tls {
    ///     Tls::from_config(config)
    /// }
    /// # let _ = tls;
    /// ```
    #[must_use]
    pub fn from_config(config: impl Into<Arc<ServerConfig>>) -> Self {
        Self::new(Source::Config, Current::made(config.into()))
    }

    /// With what `make` returns: now, and again at each [`reload`](Self::reload).
    ///
    /// ```
    /// use std::{io, sync::Arc};
    /// use axum_activation::tls::{Tls, rustls::ServerConfig};
    ///
    /// fn tls(make: fn() -> io::Result<Arc<ServerConfig>>) -> Result<Tls, axum_activation::Error> {
    ///     Tls::from_fn(make)
    /// }
    /// # let _ = tls;
    /// ```
    ///
    /// # Errors
    ///
    /// That of `make`.
    pub fn from_fn<E: fmt::Display>(
        make: impl Fn() -> Result<Arc<ServerConfig>, E> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let source = Source::Function(Box::new(move || make().map_err(|error| error.to_string())));
        let current = source.read()?;
        Ok(Self::new(source, current))
    }

    fn new(source: Source, current: Current) -> Self {
        let shared = Shared { source, current: RwLock::new(current), reloading: Mutex::new(()) };
        Self { shared: Arc::new(shared), handshake_timeout: HANDSHAKE_TIMEOUT }
    }

    /// How long a client may take from connecting to the end of its handshake; 10 s by default. The connection is closed then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::tls::Tls;
    ///
    /// fn patient(tls: Tls) -> Tls {
    ///     tls.handshake_timeout(Duration::from_secs(30))
    /// }
    /// # let _ = patient;
    /// ```
    #[must_use]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit.min(FOREVER);
        self
    }

    /// Reads the files again, or calls the function again, for the handshakes from now on. Connections that are open stay as they are.
    ///
    /// A service calls it when its certificate was renewed: from a task that looks, or from a route of its admin listener. The next process of a
    /// handoff reads the files by itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// # let tls = axum_activation::tls::Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
    /// if let Err(error) = tls.reload().await {
    ///     eprintln!("the certificate is the old one still: {error}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A file cannot be read or understood, the key does not belong to the certificate, or the new certificate has expired and the one in use has
    /// not. What was in use stays in use.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the files are read all the same, on a thread, and what they have is used.
    pub async fn reload(&self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let reloaded = blocking::on_thread_or_here(move || shared.reload()).await;
        reloaded.unwrap_or_else(|source| Err(failed("cannot be read again", Some(source))))
    }

    /// What the handshake of a connection uses that begins now.
    pub(super) fn config(&self, speaks_http2: bool) -> Arc<ServerConfig> {
        let current = self.shared.current();
        match current.without_http2 {
            Some(config) if !speaks_http2 => config,
            _ => current.config,
        }
    }

    /// Logs each day what is wrong, or soon will be, with the certificates in use.
    #[cfg(feature = "server")]
    pub(crate) async fn watch_validity(&self) {
        loop {
            tokio::time::sleep(DAY).await;
            self.shared.current().note_validity(SystemTime::now());
        }
    }

    /// How long a handshake may take.
    pub(crate) fn limit(&self) -> Duration {
        self.handshake_timeout
    }

    /// When the certificate in use expires, the first of them; `None` where the program has made the configuration.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use axum_activation::tls::Tls;
    ///
    /// fn days_left(tls: &Tls) -> Option<u64> {
    ///     let left = tls.expires()?.duration_since(SystemTime::now()).unwrap_or_default();
    ///     Some(left.as_secs() / 86_400)
    /// }
    /// # let _ = days_left;
    /// ```
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.shared.current().certificates.map(|certificates| certificates.expiry.not_after)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.shared.source {
            Source::Files(source) => format!("{:?}", source.files.pairs),
            Source::Config => "a configuration".to_owned(),
            Source::Function(_) => "a function".to_owned(),
        };
        f.debug_struct("Tls").field("from", &source).field("handshake_timeout", &self.handshake_timeout).finish()
    }
}

impl Shared {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reload(&self) -> Result<(), Error> {
        let _reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, new) = (SystemTime::now(), self.source.read()?);
        let is_expired = |current: &Current| current.validity(now).map(|validity| validity == Validity::Expired);
        if is_expired(&new) == Some(true) && is_expired(&self.current()) == Some(false) {
            let problem = new.warnings(now).join(", ")
                + "; what is in use is valid and stays in use, put the renewed files there";
            return Err(failed(&problem, None));
        }
        new.note_validity(now);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl Current {
    /// Of a configuration that the program has made.
    fn made(config: Arc<ServerConfig>) -> Self {
        Self { config: without_early_data(config), without_http2: None, certificates: None }
    }

    /// That of the certificate that expires first.
    fn validity(&self, now: SystemTime) -> Option<Validity> {
        self.certificates.as_ref().map(|certificates| certificates.expiry.validity(now))
    }

    /// Of certificates and revocation lists.
    fn warnings(&self, now: SystemTime) -> Vec<String> {
        self.certificates.as_ref().map(|certificates| certificates.warnings(now)).unwrap_or_default()
    }

    /// A certificate that clients refuse, or soon will, is used all the same: to stop would turn their warning into an outage.
    fn note_validity(&self, now: SystemTime) {
        let is_valid = matches!(self.validity(now), None | Some(Validity::Valid | Validity::ExpiresSoon));
        for problem in self.warnings(now) {
            if is_valid {
                log::warn!("{problem}: renew it");
            } else {
                log::error!("{problem}: renew it, clients refuse it");
            }
        }
    }
}

impl Source {
    fn read(&self) -> Result<Current, Error> {
        match self {
            Self::Files(source) => source.read(),
            Self::Config => Err(failed(
                "it was made by the program (Tls::from_config) and cannot be read again; use Tls::from_fn, or Tls::pem_files",
                None,
            )),
            Self::Function(make) => match make() {
                Ok(config) => Ok(Current::made(config)),
                Err(problem) => Err(failed(&format!("the function given to Tls::from_fn has failed: {problem}"), None)),
            },
        }
    }
}

impl FileSource {
    fn read(&self) -> Result<Current, Error> {
        let certificates = self.files.read(&self.provider)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&format!("the provider of cryptography cannot be used: {error}"), None))?;
        let has_clients = certificates.client_verifier.is_some();
        let mut config = match certificates.client_verifier.clone() {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        }
        .with_cert_resolver(Arc::clone(&certificates.resolver));
        config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.session_storage = if has_clients { sessions() } else { Arc::clone(&self.sessions) };
        let mut without_http2 = config.clone();
        without_http2.alpn_protocols.retain(|protocol| protocol != b"h2");
        let without_http2 = Some(Arc::new(without_http2));
        Ok(Current { config: Arc::new(config), without_http2, certificates: Some(certificates) })
    }
}

fn sessions() -> Arc<dyn StoresServerSessions> {
    ServerSessionMemoryCache::new(SESSIONS)
}

/// tokio-rustls takes early data from the client and delivers none of it: the request in it would be lost.
fn without_early_data(config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.max_early_data_size == 0 {
        return config;
    }
    let mut config = ServerConfig::clone(&config);
    config.max_early_data_size = 0;
    Arc::new(config)
}

fn failed(problem: &str, source: Option<std::io::Error>) -> Error {
    Kind::Tls { what: "TLS".to_owned(), problem: problem.to_owned(), source }.into()
}

/// Builds a [`Tls`] from files.
///
/// ```
/// use axum_activation::tls::Tls;
///
/// # fn main() -> Result<(), axum_activation::Error> {
/// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
/// let tls = Tls::builder().pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key").build()?;
/// # drop(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TlsBuilder {
    provider: Option<Arc<CryptoProvider>>,
    files: CertificateFiles,
}

impl TlsBuilder {
    /// Adds a certificate chain, that of the server first, and its key, both in PEM.
    ///
    /// Of several, the one is used whose certificate has the name that the client asks for (SNI). The first one is used for clients that
    /// ask for another name, or for none.
    ///
    /// A renewal may replace one file after the other. If they do not fit, they are read again for up to a second.
    ///
    /// ```
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use axum_activation::tls::Tls;
    ///
    /// let builder = Tls::builder().pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key");
    /// # drop(builder);
    /// ```
    pub fn pem_files(mut self, certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.files.pairs.push((certificates.into(), key.into()));
        self
    }

    /// Asks clients for a certificate of one of the CAs in this PEM file, and refuses those that have none. Several files add up.
    ///
    /// ```
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use axum_activation::tls::Tls;
    ///
    /// let mutual = Tls::builder()
    ///     .pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")
    ///     .client_ca_file("examples/tls/clients.pem");
    /// # drop(mutual);
    /// ```
    pub fn client_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.files.client_cas.push(file.into());
        self
    }

    /// Refuses client certificates that this PEM file revokes. Several files add up. With one of them each CA must have a list.
    ///
    /// ```
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use axum_activation::tls::Tls;
    ///
    /// let mutual = Tls::builder()
    ///     .pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")
    ///     .client_ca_file("examples/tls/clients.pem")
    ///     .client_crl_file("examples/tls/revoked.pem");
    /// # drop(mutual);
    /// ```
    pub fn client_crl_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.files.crls.push(file.into());
        self
    }

    /// Serves clients without a certificate too. [`TlsInfo::client_certificates`](super::TlsInfo::client_certificates) says which have one.
    ///
    /// ```
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use axum_activation::tls::Tls;
    ///
    /// let mutual = Tls::builder()
    ///     .pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")
    ///     .client_ca_file("examples/tls/clients.pem")
    ///     .optional_client_certificate();
    /// # drop(mutual);
    /// ```
    pub fn optional_client_certificate(mut self) -> Self {
        self.files.client_certificate_is_optional = true;
        self
    }

    /// Reads the files.
    ///
    /// An expired certificate is no error here, but an event at ERROR: clients decide what they do with it.
    ///
    /// ```
    /// use axum_activation::tls::Tls;
    ///
    /// # fn main() -> Result<(), axum_activation::Error> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// let tls = Tls::builder().pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key").build()?;
    /// # drop(tls);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Tls::pem_files`].
    pub fn build(self) -> Result<Tls, Error> {
        let Self { provider, files } = self;
        let provider = provider.map_or_else(provider::of_the_process, Ok)?;
        let source = FileSource { files, provider, sessions: sessions() };
        let current = source.read()?;
        current.note_validity(SystemTime::now());
        Ok(Tls::new(Source::Files(Box::new(source)), current))
    }
}
