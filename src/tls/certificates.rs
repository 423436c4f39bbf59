//! The certificates, keys and revocation lists of TLS, read from PEM files.
//!
//! [`CertificateFiles::read`] reads all files of a configuration at once, so a reload takes all of them or none. It
//! blocks. A pair that does not fit is read again for up to a second, because a renewal writes the certificate and the
//! key one after the other.
//!
//! # Which certificate a client gets
//!
//! The client names the host that it wants (SNI). The first pair whose certificate has that name is chosen, and a
//! wildcard (`*.example.com`) stands for one label. The first pair of all is for a name that no certificate has, and
//! for a client that sends no name. The names are read from the certificates here, so a handshake parses none.
//!
//! # Revocation lists
//!
//! They are checked as nginx (`ssl_crl`) and HAProxy (`crl-file`) check them. As soon as one list is given, each
//! certificate of a client's chain below the CA needs a list of its issuer. Without such a list the client is refused.
//! A list past its next update is expired, and the clients of its issuer are refused until a newer one is read. Of
//! several lists of one issuer the newest counts.
//!
//! The expiry of the CA itself is not checked: to trust a CA no longer, remove it from the file.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    RootCertStore,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName},
    server::{
        ClientCertVerifierBuilder, ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer,
    revocation_list::CertificateRevocationList, time::ASN1Time,
};

use super::pem_file::{CERTIFICATE, CRL, Unusable, items, pause, private_key, until_usable, unusable};
use crate::error::{Error, Kind};

/// How long before its end a certificate expires soon.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What to do about a certificate that cannot be parsed.
const ISSUE: &str = "issue it anew, as X.509 version 3 (`openssl x509 -req` makes version 1 without -extfile)";

/// The files that a configuration of TLS is read from.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateFiles {
    /// Certificate chain and key, each PEM. The server name of a client chooses between several pairs, and the first
    /// one is for a name that no certificate has, and for no name.
    pub(super) pairs: Vec<(PathBuf, PathBuf)>,
    /// PEM files with the CAs whose client certificates are accepted. Empty: clients are not asked.
    pub(super) client_cas: Vec<PathBuf>,
    /// PEM files of revocation lists for client certificates.
    pub(super) crls: Vec<PathBuf>,
    /// Whether a client without a certificate is served.
    pub(super) client_certificate_is_optional: bool,
}

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    pub(super) resolver: Arc<dyn ResolvesServerCert>,
    /// Checks client certificates, if they are asked for.
    pub(super) client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Of the chain that expires first.
    pub(super) expiry: Expiry,
    /// Of all chains, in the order of the pairs.
    chains: Vec<Expiry>,
    /// Of the revocation lists.
    crls: Vec<Expiry>,
}

/// When what a file holds is valid: a certificate chain as long as all its certificates are, a revocation list up to
/// its next update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) file: PathBuf,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// How an [`Expiry`] stands to a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    Valid,
    /// Within 14 days.
    ExpiresSoon,
    Expired,
    NotYetValid,
}

/// A certificate chain with its key.
struct Pair {
    key: Arc<CertifiedKey>,
    /// The names of the leaf in lower case, wildcards among them.
    names: Vec<String>,
    expiry: Expiry,
}

/// A revocation list.
struct Crl {
    der: CertificateRevocationListDer<'static>,
    /// `None` if only rustls can read the list.
    expiry: Option<Expiry>,
}

/// Chooses the pair by the name that the client sends.
struct ByServerName {
    keys: Vec<Arc<CertifiedKey>>,
    /// Which of `keys` has a name.
    exact: HashMap<String, usize>,
    /// Which of `keys` has `*.` before a name.
    wildcards: HashMap<String, usize>,
}

impl CertificateFiles {
    /// Reads all files. It blocks, for up to a second more where a file cannot be used.
    ///
    /// # Errors
    ///
    /// A file cannot be read or is not what it has to be, a key does not fit its certificate, or the files do not make
    /// a configuration. The error names the file and the fix.
    pub(super) fn read(&self, provider: &Arc<CryptoProvider>) -> Result<Certificates, Error> {
        self.read_waiting(provider, &mut pause)
    }

    /// As [`read`](Self::read), with `wait` between two reads of a file.
    fn read_waiting(&self, provider: &Arc<CryptoProvider>, wait: &mut dyn FnMut()) -> Result<Certificates, Error> {
        self.check()?;
        let pairs = self.read_pairs(provider, wait)?;
        let chains: Vec<_> = pairs.iter().map(|pair| pair.expiry.clone()).collect();
        let first = chains.iter().min_by_key(|expiry| expiry.not_after).ok_or_else(no_pair)?;
        let mut certificates = Certificates {
            expiry: first.clone(),
            resolver: Arc::new(ByServerName::new(pairs)),
            client_verifier: None,
            chains,
            crls: Vec::new(),
        };
        if !self.client_cas.is_empty() {
            let verifier = self.read_client_cas(provider, wait)?;
            let crls = self.read_crls(&verifier, wait)?;
            certificates.crls = crls.iter().filter_map(|crl| crl.expiry.clone()).collect();
            let verifier = verifier.with_crls(crls.into_iter().map(|crl| crl.der)).build();
            certificates.client_verifier = Some(verifier.map_err(|error| tls(error.to_string()))?);
        }
        Ok(certificates)
    }

    fn check(&self) -> Result<(), Error> {
        match (self.client_cas.is_empty(), &self.crls[..]) {
            (true, [crl, ..]) => Err(unusable(
                crl,
                "a revocation list is for client certificates, and no CA of clients is given; add it with client_ca_file(..), \
                 or leave client_crl_file(..) out",
            )),
            (true, []) if self.client_certificate_is_optional => Err(tls(
                "client certificates are optional, and no CA of clients is given; add it with client_ca_file(..), or leave \
                 optional_client_certificate() out",
            )),
            _ => Ok(()),
        }
    }

    fn read_pairs(&self, provider: &CryptoProvider, wait: &mut dyn FnMut()) -> Result<Vec<Pair>, Error> {
        let read = |(chain, key): &(PathBuf, PathBuf)| until_usable(wait, || Pair::read(chain, key, provider));
        self.pairs.iter().map(read).collect()
    }

    /// A verifier without revocation lists.
    fn read_client_cas(
        &self,
        provider: &Arc<CryptoProvider>,
        wait: &mut dyn FnMut(),
    ) -> Result<ClientCertVerifierBuilder, Error> {
        let mut roots = RootCertStore::empty();
        for file in &self.client_cas {
            roots.extend(until_usable(wait, || trusted(file))?.roots);
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .enforce_revocation_expiration();
        Ok(if self.client_certificate_is_optional { builder.allow_unauthenticated() } else { builder })
    }

    /// The newest one first, because `verifier` takes the first one of an issuer.
    fn read_crls(&self, verifier: &ClientCertVerifierBuilder, wait: &mut dyn FnMut()) -> Result<Vec<Crl>, Error> {
        let mut crls = Vec::new();
        for file in &self.crls {
            crls.extend(until_usable(wait, || Crl::read_all(file, verifier))?);
        }
        crls.sort_by_key(|crl| Reverse(crl.expiry.as_ref().map(|expiry| expiry.not_before)));
        Ok(crls)
    }
}

impl Certificates {
    /// What an operator has to know at `now`: chains that expire soon or are not valid, and revocation lists that are
    /// expired. Lists live for days or weeks, so one that expires soon is no news.
    pub(super) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let chains = self.chains.iter().filter_map(|expiry| expiry.warning(now));
        let crls = self.crls.iter().filter(|expiry| expiry.validity(now) == Validity::Expired);
        let crls = crls.filter_map(|expiry| expiry.warning(now));
        chains.chain(crls.map(|text| format!("{text}; client certificates of its issuer are refused"))).collect()
    }
}

impl Expiry {
    /// Of the chain: from when all certificates are valid, until the first one expires.
    fn of_chain(file: &Path, chain: &[CertificateDer<'_>]) -> Result<Self, Error> {
        let (mut not_before, mut not_after) = (UNIX_EPOCH, None);
        for der in chain {
            let (_, certificate) = X509Certificate::from_der(der)
                .map_err(|error| unusable(file, format!("a certificate cannot be parsed ({error}); {ISSUE}")))?;
            let validity = certificate.validity();
            let end = system_time(validity.not_after);
            not_before = not_before.max(system_time(validity.not_before));
            not_after = Some(not_after.map_or(end, |earliest: SystemTime| earliest.min(end)));
        }
        let not_after = not_after.ok_or_else(|| unusable(file, "holds no certificate"))?;
        Ok(Self { file: file.to_owned(), not_before, not_after })
    }

    fn of_crl(file: &Path, crl: &CertificateRevocationListDer<'_>) -> Option<Self> {
        let (_, crl) = CertificateRevocationList::from_der(crl).ok()?;
        let [not_before, not_after] = [crl.last_update(), crl.next_update()?].map(system_time);
        Some(Self { file: file.to_owned(), not_before, not_after })
    }

    pub(super) fn validity(&self, now: SystemTime) -> Validity {
        if now > self.not_after {
            Validity::Expired
        } else if now < self.not_before {
            Validity::NotYetValid
        } else if self.not_after.duration_since(now).is_ok_and(|rest| rest <= SOON) {
            Validity::ExpiresSoon
        } else {
            Validity::Valid
        }
    }

    /// What is wrong at `now`, with the file and the time: `/etc/app/chain.pem expires at 2026-12-01 10:00:00 UTC`.
    pub(super) fn warning(&self, now: SystemTime) -> Option<String> {
        let (what, time) = match self.validity(now) {
            Validity::Valid => return None,
            Validity::ExpiresSoon => ("expires at", self.not_after),
            Validity::Expired => ("expired at", self.not_after),
            Validity::NotYetValid => ("is not valid before", self.not_before),
        };
        Some(format!("{} {what} {}", self.file.display(), in_utc(time)))
    }
}

impl Pair {
    fn read(chain_file: &Path, key_file: &Path, provider: &CryptoProvider) -> Result<Self, Unusable> {
        let chain = items::<CertificateDer<'_>>(chain_file, &CERTIFICATE)?;
        let key = private_key(key_file)?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            Unusable::ForNow(match error {
                rustls::Error::InconsistentKeys(_) => unfit(chain_file, key_file),
                rustls::Error::InvalidCertificate(error) => {
                    unusable(chain_file, format!("the first certificate cannot be parsed ({error}); {ISSUE}"))
                }
                error => unusable(
                    key_file,
                    format!(
                        "the key cannot be used ({error}); make one of EC P-256, or of RSA with 2,048 bits or more"
                    ),
                ),
            })
        })?;
        let expiry = Expiry::of_chain(chain_file, &key.cert).map_err(Unusable::ForNow)?;
        let names = key.cert.first().map(names).unwrap_or_default();
        Ok(Self { key: Arc::new(key), names, expiry })
    }
}

impl Crl {
    /// All of the file, each one that `verifier` can use.
    fn read_all(file: &Path, verifier: &ClientCertVerifierBuilder) -> Result<Vec<Self>, Unusable> {
        let read = |der: CertificateRevocationListDer<'static>| {
            // A verifier with this list alone is built, because the error of one with all does not say which list it is.
            verifier.clone().with_crls([der.clone()]).build().map_err(|error| {
                let fix = "give a complete list of version 2, as `openssl ca -gencrl` makes it";
                Unusable::ForNow(unusable(file, format!("{error}; {fix}")))
            })?;
            Ok(Self { expiry: Expiry::of_crl(file, &der), der })
        };
        items(file, &CRL)?.into_iter().map(read).collect()
    }
}

impl ByServerName {
    fn new(pairs: Vec<Pair>) -> Self {
        let (mut exact, mut wildcards) = (HashMap::new(), HashMap::new());
        let mut keys = Vec::new();
        for (index, pair) in pairs.into_iter().enumerate() {
            for name in pair.names {
                match name.strip_prefix("*.") {
                    Some(rest) => wildcards.entry(rest.to_owned()).or_insert(index),
                    None => exact.entry(name).or_insert(index),
                };
            }
            keys.push(pair.key);
        }
        Self { keys, exact, wildcards }
    }

    fn choose(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let index = name.filter(|_| self.keys.len() > 1).and_then(|name| self.find(name));
        self.keys.get(index.unwrap_or(0))
    }

    /// The first pair that has `name`, which rustls gives in lower case.
    fn find(&self, name: &str) -> Option<usize> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let wildcard = name.split_once('.').and_then(|(_, rest)| self.wildcards.get(rest));
        self.exact.get(name).into_iter().chain(wildcard).min().copied()
    }
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(Arc::clone)
    }
}

/// Without the keys.
impl fmt::Debug for ByServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, exact, wildcards } = self;
        let keys = &keys.len();
        f.debug_struct("ByServerName").field("keys", keys).field("exact", exact).field("wildcards", wildcards).finish()
    }
}

/// The certificates of the file as CAs.
fn trusted(file: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in items::<CertificateDer<'_>>(file, &CERTIFICATE)? {
        roots.add(certificate).map_err(|error| {
            Unusable::ForNow(unusable(
                file,
                format!("a certificate cannot be a CA of clients ({error}); issue it anew"),
            ))
        })?;
    }
    Ok(roots)
}

/// The names of a leaf in lower case that rustls accepts too.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let (Ok((_, certificate)), Ok(judge)) = (X509Certificate::from_der(leaf), ParsedCertificate::try_from(leaf)) else {
        return Vec::new();
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let names = names
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None });
    names.filter(|name| has_name(&judge, name)).collect()
}

fn has_name(judge: &ParsedCertificate<'_>, name: &str) -> bool {
    let example = name.strip_prefix("*.").map_or_else(|| name.to_owned(), |rest| format!("a.{rest}"));
    ServerName::try_from(example).is_ok_and(|name| verify_server_name(judge, &name).is_ok())
}

fn system_time(time: ASN1Time) -> SystemTime {
    let since = Duration::from_secs(time.timestamp().unsigned_abs());
    if time.timestamp() < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since }
}

/// `2026-12-01 10:00:00 UTC`.
fn in_utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Some(time) = i64::try_from(since).ok().and_then(|since| ASN1Time::from_timestamp(since).ok()) else {
        return "a time that has no date".to_owned();
    };
    let time = time.to_datetime();
    let (month, hour, minute, second) = (u8::from(time.month()), time.hour(), time.minute(), time.second());
    format!("{:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", time.year(), time.day())
}

fn no_pair() -> Error {
    tls("no certificate is given; add the files of a certificate chain and of its key with pem_files(..)")
}

fn unfit(chain: &Path, key: &Path) -> Error {
    let what = format!("{} and {}", chain.display(), key.display());
    let problem =
        "the key is not that of the first certificate; give the key that the certificate was issued for, and put that \
                   certificate before the intermediates"
            .to_owned();
    Kind::Tls { what, problem, source: None }.into()
}

fn tls(problem: impl Into<String>) -> Error {
    Kind::Tls { what: "TLS".to_owned(), problem: problem.into(), source: None }.into()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };
    use rustls::{
        CertificateError, ClientConfig, ClientConnection, ServerConfig, ServerConnection, pki_types::PrivateKeyDer,
    };
    use tempfile::TempDir;

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    /// The providers that are compiled in.
    fn providers() -> Vec<Arc<CryptoProvider>> {
        vec![
            #[cfg(feature = "tls-ring")]
            Arc::new(rustls::crypto::ring::default_provider()),
            #[cfg(feature = "tls-aws-lc-rs")]
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        ]
    }

    /// A directory with the files of a test.
    struct Files(TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let file = self.0.path().join(name);
            fs::write(&file, text).unwrap();
            file
        }

        fn pair(&self, name: &str, issued: &Issued) -> (PathBuf, PathBuf) {
            let chain = self.write(&format!("{name}.pem"), &issued.chain);
            (chain, self.write(&format!("{name}.key"), issued.key.serialize_pem()))
        }
    }

    struct Issued {
        chain: String,
        der: CertificateDer<'static>,
        key: KeyPair,
    }

    impl Issued {
        fn by(issuer: &Issuer, name: &str) -> Self {
            Self::with(issuer, &[name], |_| {})
        }

        fn with(issuer: &Issuer, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, issuer).unwrap();
            Self { chain: certificate.pem(), der: certificate.der().clone(), key }
        }
    }

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    fn ca(name: &str) -> Issuer {
        CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap()
    }

    /// A list from the begin of one year to the end of another.
    fn crl(issuer: &Issuer, [from, to]: [i32; 2], revoked: Option<u64>) -> String {
        let revoked = revoked.map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(from, 1, 1),
            next_update: date_time_ymd(to, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_iter().collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().pem().unwrap()
    }

    fn one_pair(pair: (PathBuf, PathBuf)) -> CertificateFiles {
        CertificateFiles { pairs: vec![pair], ..CertificateFiles::default() }
    }

    /// Reads without waiting; returns how often it would have waited too.
    fn read(files: &CertificateFiles, provider: &Arc<CryptoProvider>) -> (Result<Certificates, Error>, u32) {
        let mut waits = 0;
        (files.read_waiting(provider, &mut || waits += 1), waits)
    }

    /// A whole handshake in memory. Returns the leaf that the client got, or the error of the server.
    fn handshake(
        certificates: &Certificates,
        provider: &Arc<CryptoProvider>,
        server_ca: &Issuer,
        name: &str,
        client: Option<&Issued>,
    ) -> Result<CertificateDer<'static>, rustls::Error> {
        let verifier =
            certificates.client_verifier.as_ref().map_or_else(WebPkiClientVerifier::no_client_auth, Arc::clone);
        let config = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
        let config = config.unwrap().with_client_cert_verifier(verifier);
        let config = config.with_cert_resolver(Arc::clone(&certificates.resolver));
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(server_ca.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots);
        let config = match client {
            Some(client) => {
                let key = PrivateKeyDer::try_from(client.key.serialize_der()).unwrap();
                config.with_client_auth_cert(vec![client.der.clone()], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(client.peer_certificates().unwrap()[0].clone())
    }

    fn at(year: i32, month: u8, day: u8) -> SystemTime {
        date_time_ymd(year, month, day).into()
    }

    #[test]
    fn a_certificate_with_its_key_is_served() {
        let (files, ca) = (Files::new(), ca("ca"));
        let issued = Issued::by(&ca, "a.example");
        let configuration = one_pair(files.pair("a", &issued));
        for provider in providers() {
            let certificates = configuration.read(&provider).unwrap();
            assert_eq!(handshake(&certificates, &provider, &ca, "a.example", None).unwrap(), issued.der);
            assert!(certificates.client_verifier.is_none());
        }
    }

    #[test]
    fn a_chain_and_its_key_may_be_in_one_file() {
        let (files, ca) = (Files::new(), ca("ca"));
        let issued = Issued::by(&ca, "a.example");
        let file = files.write("both.pem", format!("# a.example\n{}{}", issued.key.serialize_pem(), issued.chain));
        for provider in providers() {
            let certificates = one_pair((file.clone(), file.clone())).read(&provider).unwrap();
            assert_eq!(handshake(&certificates, &provider, &ca, "a.example", None).unwrap(), issued.der);
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_after_all_reads() {
        let (files, ca) = (Files::new(), ca("ca"));
        let (chain, _) = files.pair("a", &Issued::by(&ca, "a.example"));
        let (_, key) = files.pair("b", &Issued::by(&ca, "b.example"));
        for provider in providers() {
            let (result, waits) = read(&one_pair((chain.clone(), key.clone())), &provider);
            let error = result.unwrap_err().to_string();
            let expected =
                format!("{} and {}: the key is not that of the first certificate", chain.display(), key.display());
            assert!(error.starts_with(&expected), "{error}");
            assert_eq!(waits, 9);
        }
    }

    #[test]
    fn an_intermediate_before_the_leaf_is_refused() {
        let (files, ca) = (Files::new(), ca("ca"));
        let issued = Issued::by(&ca, "a.example");
        let chain = files.write("chain.pem", ca.pem() + &issued.chain);
        let (_, key) = files.pair("a", &issued);
        for provider in providers() {
            let error = read(&one_pair((chain.clone(), key.clone())), &provider).0.unwrap_err().to_string();
            assert!(error.contains("put that certificate before the intermediates"), "{error}");
        }
    }

    #[test]
    fn a_renewal_that_writes_one_file_after_the_other_is_read_to_its_end() {
        let ca = ca("ca");
        for provider in providers() {
            let files = Files::new();
            let (old, new) = (Issued::by(&ca, "a.example"), Issued::by(&ca, "a.example"));
            let configuration = one_pair(files.pair("a", &old));
            let key = new.key.serialize_pem();
            // Each wait is a step of the renewal, and no pair fits in between.
            let mut steps = vec![
                ("a.key", Some(key.as_str())),
                ("a.key", Some(&key[..60])),
                ("a.key", None),
                ("a.pem", Some(&new.chain[..200])),
                ("a.pem", Some("")),
            ];
            files.write("a.pem", &new.chain);
            let certificates = configuration.read_waiting(&provider, &mut || {
                if let Some((name, text)) = steps.pop() {
                    match text {
                        Some(text) => drop(files.write(name, text)),
                        None => fs::remove_file(files.0.path().join(name)).unwrap(),
                    }
                    if name == "a.key" {
                        files.write("a.pem", &new.chain);
                    }
                }
            });
            assert!(steps.is_empty(), "{steps:?}");
            assert_eq!(handshake(&certificates.unwrap(), &provider, &ca, "a.example", None).unwrap(), new.der);
        }
    }

    /// Other formats than that of rcgen, made by openssl. Nothing is checked where it is not installed.
    #[test]
    fn keys_of_all_formats_are_read() {
        let (files, ca) = (Files::new(), ca("ca"));
        let openssl = |arguments: &[&str]| {
            Command::new("openssl")
                .current_dir(files.0.path())
                .args(arguments)
                .output()
                .is_ok_and(|it| it.status.success())
        };
        if !openssl(&["version"]) {
            return;
        }
        let rsa = ["genpkey", "-quiet", "-algorithm", "RSA", "-out", "rsa.key"];
        assert!(openssl(&rsa) || openssl(&["genpkey", "-algorithm", "RSA", "-out", "rsa.key"]));
        files.write("ec.key", KeyPair::generate().unwrap().serialize_pem());
        for (name, label) in [("rsa", "-----BEGIN RSA PRIVATE KEY-----"), ("ec", "-----BEGIN EC PRIVATE KEY-----")] {
            let pkcs8 = files.0.path().join(format!("{name}.key"));
            let key = KeyPair::from_pem(&fs::read_to_string(&pkcs8).unwrap()).unwrap();
            let certificate = CertificateParams::new(["a.example".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
            let chain = files.write(&format!("{name}.pem"), certificate.pem());
            let older = format!("{name}-older.key");
            assert!(openssl(&["pkey", "-traditional", "-in", pkcs8.to_str().unwrap(), "-out", &older]));
            let older = files.0.path().join(older);
            assert!(fs::read_to_string(&older).unwrap().starts_with(label));
            for (provider, key) in providers().iter().flat_map(|provider| [(provider, &pkcs8), (provider, &older)]) {
                let certificates = one_pair((chain.clone(), key.clone())).read(provider).unwrap();
                assert_eq!(&handshake(&certificates, provider, &ca, "a.example", None).unwrap(), certificate.der());
            }
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_parsed_names_its_file() {
        let (files, ca) = (Files::new(), ca("ca"));
        let issued = Issued::by(&ca, "a.example");
        let (_, key) = files.pair("a", &issued);
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in [garbage.to_owned(), issued.chain.clone() + garbage] {
            let chain = files.write("garbage.pem", text);
            for provider in providers() {
                let error = read(&one_pair((chain.clone(), key.clone())), &provider).0.unwrap_err().to_string();
                assert!(error.starts_with(&format!("{}: ", chain.display())), "{error}");
                assert!(error.contains("cannot be parsed"), "{error}");
            }
        }
        let key = files.write("garbage.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let chain = files.write("a.pem", &issued.chain);
        for provider in providers() {
            let error = read(&one_pair((chain.clone(), key.clone())), &provider).0.unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: the key cannot be used", key.display())), "{error}");
        }
    }

    #[test]
    fn the_server_name_chooses_the_first_pair_that_has_it() {
        let (files, ca) = (Files::new(), ca("ca"));
        let names: [&[&str]; 4] = [
            &["first.example"],
            &["*.b.example", "B.example"],
            &["c.b.example", "c.example", "10.0.0.1"],
            &["*.c.example", "*.top"],
        ];
        let issued: Vec<_> = names.iter().map(|names| Issued::with(&ca, names, |_| {})).collect();
        let pairs = issued.iter().enumerate().map(|(i, issued)| files.pair(&i.to_string(), issued)).collect();
        let configuration = CertificateFiles { pairs, ..CertificateFiles::default() };
        for provider in providers() {
            let resolver = ByServerName::new(configuration.read_pairs(&provider, &mut || {}).unwrap());
            for (name, expected) in [
                (None, 0),
                (Some("first.example"), 0),
                (Some("unknown.example"), 0),
                (Some("example"), 0),
                (Some("b.example"), 1),
                (Some("b.example."), 1),
                (Some("a.b.example"), 1),
                (Some("c.b.example"), 1),
                (Some("a.a.b.example"), 0),
                (Some("c.example"), 2),
                (Some("a.c.example"), 3),
                // No client accepts a wildcard over a whole top-level domain.
                (Some("a.top"), 0),
                (Some(""), 0),
            ] {
                assert_eq!(resolver.choose(name).unwrap().cert[0], issued[expected].der, "{name:?}");
            }
            // As rustls judges.
            for (i, issued) in issued.iter().enumerate() {
                let judge = ParsedCertificate::try_from(&issued.der).unwrap();
                for name in ["first.example", "b.example", "a.b.example", "a.a.b.example", "c.example", "a.c.example"] {
                    let has = verify_server_name(&judge, &ServerName::try_from(name).unwrap()).is_ok();
                    assert_eq!(has, has_name(&judge, name));
                    assert!(!has || resolver.find(name).is_some_and(|found| found <= i), "{name}");
                }
            }
            let certificates = configuration.read(&provider).unwrap();
            for (name, expected) in [("first.example", 0), ("A.B.example", 1), ("c.example", 2)] {
                assert_eq!(handshake(&certificates, &provider, &ca, name, None).unwrap(), issued[expected].der);
            }
        }
    }

    #[test]
    fn a_client_certificate_is_required_or_optional() {
        let (files, ca, clients, strangers) = (Files::new(), ca("ca"), ca("clients"), ca("strangers"));
        let pair = files.pair("a", &Issued::by(&ca, "a.example"));
        let client_cas = vec![files.write("old.pem", ca.pem()), files.write("clients.pem", clients.pem())];
        let mut configuration = CertificateFiles { pairs: vec![pair], client_cas, ..CertificateFiles::default() };
        let client = Issued::by(&clients, "client");
        let stranger = Issued::by(&strangers, "stranger");
        for provider in providers() {
            configuration.client_certificate_is_optional = false;
            let required = configuration.read(&provider).unwrap();
            configuration.client_certificate_is_optional = true;
            let optional = configuration.read(&provider).unwrap();
            let shake = |certificates, client| handshake(certificates, &provider, &ca, "a.example", client).map(drop);
            assert_eq!(shake(&required, Some(&client)), Ok(()));
            assert_eq!(shake(&required, None), Err(rustls::Error::NoCertificatesPresented));
            assert_eq!(shake(&optional, Some(&client)), Ok(()));
            assert_eq!(shake(&optional, None), Ok(()));
            let unknown = Err(CertificateError::UnknownIssuer.into());
            assert_eq!(shake(&required, Some(&stranger)), unknown);
            assert_eq!(shake(&optional, Some(&stranger)), unknown);
        }
    }

    #[test]
    fn a_revoked_client_certificate_is_refused() {
        let (files, ca, clients) = (Files::new(), ca("ca"), ca("clients"));
        let pair = files.pair("a", &Issued::by(&ca, "a.example"));
        let [good, revoked] = [6, 7].map(|serial: u64| {
            Issued::with(&clients, &["client"], |params| params.serial_number = Some(SerialNumber::from(serial)))
        });
        let other = Issued::by(&ca, "other");
        let clients_file = files.write("clients.pem", clients.pem() + &ca.pem());
        let crl_file = files.write("clients.crl", crl(&clients, [2020, 4000], Some(7)));
        let older = files.write("older.crl", crl(&clients, [2019, 4001], None));
        let expired = files.write("expired.crl", crl(&clients, [2019, 2020], None));
        for (provider, crls) in providers().iter().flat_map(|provider| {
            let older_first = vec![older.clone(), crl_file.clone()];
            [(provider, vec![crl_file.clone()]), (provider, older_first)]
        }) {
            let configuration = CertificateFiles {
                pairs: vec![pair.clone()],
                client_cas: vec![clients_file.clone()],
                crls,
                client_certificate_is_optional: true,
            };
            let certificates = configuration.read(provider).unwrap();
            let shake = |client| handshake(&certificates, provider, &ca, "a.example", client).map(drop);
            assert_eq!(shake(Some(&good)), Ok(()));
            assert_eq!(shake(Some(&revoked)), Err(CertificateError::Revoked.into()));
            assert_eq!(shake(None), Ok(()));
            // An issuer without a list.
            assert_eq!(shake(Some(&other)), Err(CertificateError::UnknownRevocationStatus.into()));
            assert!(certificates.warnings(at(2026, 1, 1)).is_empty());

            let configuration = CertificateFiles { crls: vec![expired.clone()], ..configuration };
            let certificates = configuration.read(provider).unwrap();
            let error = handshake(&certificates, provider, &ca, "a.example", Some(&good)).unwrap_err();
            let rustls::Error::InvalidCertificate(CertificateError::ExpiredRevocationListContext { .. }) = error else {
                panic!("{error}");
            };
            let text = "expired at 2020-12-31 00:00:00 UTC; client certificates of its issuer are refused";
            assert_eq!(certificates.warnings(at(2026, 1, 1)), [format!("{} {text}", expired.display())]);
            assert!(certificates.warnings(at(2020, 12, 30)).is_empty());
        }
    }

    #[test]
    fn a_list_or_a_ca_that_cannot_be_parsed_names_its_file() {
        let (files, ca) = (Files::new(), ca("ca"));
        let pair = files.pair("a", &Issued::by(&ca, "a.example"));
        let good = [files.write("ca.pem", ca.pem()), files.write("ca.crl", crl(&ca, [2020, 4000], None))];
        let broken_ca = files.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let broken_crl = files.write("broken.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
        for (cas, crls, broken) in [(&broken_ca, &good[1], &broken_ca), (&good[0], &broken_crl, &broken_crl)] {
            let configuration = CertificateFiles {
                pairs: vec![pair.clone()],
                client_cas: vec![good[0].clone(), cas.clone()],
                crls: vec![good[1].clone(), crls.clone()],
                client_certificate_is_optional: false,
            };
            for provider in providers() {
                let error = read(&configuration, &provider).0.unwrap_err().to_string();
                assert!(error.starts_with(&format!("{}: ", broken.display())), "{error}");
            }
        }
    }

    #[test]
    fn files_that_make_no_configuration_are_refused_with_the_fix() {
        let pairs = vec![(PathBuf::from("chain.pem"), PathBuf::from("key.pem"))];
        let nothing = CertificateFiles::default();
        let no_ca = CertificateFiles { pairs, ..CertificateFiles::default() };
        let crl = CertificateFiles { crls: vec![PathBuf::from("clients.crl")], ..no_ca.clone() };
        let optional = CertificateFiles { client_certificate_is_optional: true, ..no_ca };
        for (configuration, expected) in [
            (nothing, "TLS: no certificate is given; add "),
            (crl, "clients.crl: a revocation list is for client certificates, and no CA of clients is given; add "),
            (optional, "TLS: client certificates are optional, and no CA of clients is given; add "),
        ] {
            for provider in providers() {
                let error = configuration.read(&provider).unwrap_err().to_string();
                assert!(error.starts_with(expected), "{error}");
            }
        }
    }

    #[test]
    fn the_earliest_end_of_all_chains_is_reported() {
        let files = Files::new();
        let mut params = authority("root");
        params.not_before = date_time_ymd(2025, 1, 1);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = authority("intermediate");
        params.not_after = date_time_ymd(2029, 5, 6);
        let intermediate = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
        let mut one = Issued::with(&intermediate, &["a.example"], |params| {
            params.not_before = date_time_ymd(2024, 2, 3);
            params.not_after = date_time_ymd(2031, 1, 1);
        });
        one.chain += &intermediate.pem();
        let mut two = Issued::with(&root, &["b.example"], |params| params.not_after = date_time_ymd(2030, 1, 1));
        two.chain += &root.pem();
        let (one, two) = (files.pair("one", &one), files.pair("two", &two));
        for provider in providers() {
            let certificates =
                CertificateFiles { pairs: vec![two.clone(), one.clone()], ..CertificateFiles::default() }
                    .read(&provider);
            let certificates = certificates.unwrap();
            let expected = Expiry { file: one.0.clone(), not_before: at(2024, 2, 3), not_after: at(2029, 5, 6) };
            assert_eq!(certificates.expiry, expected, "it is that of the intermediate");
            let (one, two) = (one.0.display(), two.0.display());
            for (now, expected) in [
                (at(2025, 1, 1), vec![]),
                (at(2024, 6, 1), vec![format!("{two} is not valid before 2025-01-01 00:00:00 UTC")]),
                (at(2029, 4, 21), vec![]),
                (at(2029, 4, 22), vec![format!("{one} expires at 2029-05-06 00:00:00 UTC")]),
                (
                    at(2029, 12, 31),
                    vec![
                        format!("{two} expires at 2030-01-01 00:00:00 UTC"),
                        format!("{one} expired at 2029-05-06 00:00:00 UTC"),
                    ],
                ),
            ] {
                assert_eq!(certificates.warnings(now), expected);
            }
        }
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_to_its_last_second() {
        let expiry = Expiry { file: "a.pem".into(), not_before: at(2024, 1, 1), not_after: at(2025, 1, 1) };
        let second = Duration::from_secs(1);
        for (now, expected) in [
            (at(2024, 1, 1) - second, Validity::NotYetValid),
            (at(2024, 1, 1), Validity::Valid),
            (at(2025, 1, 1) - SOON - second, Validity::Valid),
            (at(2025, 1, 1) - SOON, Validity::ExpiresSoon),
            (at(2025, 1, 1), Validity::ExpiresSoon),
            (at(2025, 1, 1) + second, Validity::Expired),
        ] {
            assert_eq!(expiry.validity(now), expected, "{now:?}");
        }
    }

    #[test]
    fn a_certificate_may_be_older_than_unix() {
        let second = Duration::from_secs(1);
        assert_eq!(system_time(ASN1Time::from_timestamp(-1).unwrap()), UNIX_EPOCH - second);
        assert_eq!(system_time(ASN1Time::from_timestamp(1).unwrap()), UNIX_EPOCH + second);
    }

    #[test]
    fn a_time_is_shown_in_utc_to_the_second() {
        assert_eq!(in_utc(UNIX_EPOCH + Duration::from_secs(1_709_210_096)), "2024-02-29 12:34:56 UTC");
        assert_eq!(in_utc(at(9999, 12, 31)), "9999-12-31 00:00:00 UTC");
        assert_eq!(in_utc(UNIX_EPOCH + Duration::from_secs(1 << 60)), "a time that has no date");
    }

    #[test]
    fn debug_shows_no_key() {
        let (files, ca) = (Files::new(), ca("ca"));
        let issued = Issued::by(&ca, "a.example");
        let configuration = one_pair(files.pair("a", &issued));
        for provider in providers() {
            let debug = format!("{:?}", configuration.read(&provider).unwrap());
            assert!(debug.contains("ByServerName { keys: 1, exact: {\"a.example\": 0}, wildcards: {} }"), "{debug}");
        }
    }
}
