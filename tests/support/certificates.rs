//! Certificates that a test makes for itself, and a client that trusts them.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum_activation::{
    ListenAddr,
    tls::{
        Tls, TlsBuilder,
        rustls::{
            ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
            crypto::ring,
            pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
            version,
        },
    },
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;

use super::wait::LIMIT;

/// A certificate authority, and a folder for what it issues.
pub(crate) struct Authority {
    folder: TempDir,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain and its key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// A client over TLS that blocks.
pub(crate) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name");
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("it is written");
        Self { folder, certificate, issuer: Issuer::new(params, key) }
    }

    /// The file of its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues a certificate for that name, in files of that name.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.issue_with(name, |_| ())
    }

    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let pair = Pair { chain: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        fs::write(&pair.chain, certificate.pem()).expect("it is written");
        fs::write(&pair.key, key.serialize_pem()).expect("it is written");
        pair
    }

    /// Writes a list that revokes the certificates of these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> PathBuf {
        let day = time(2026, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: day,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: day,
            next_update: time(2099, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.path("revoked.pem");
        let list = params.signed_by(&self.issuer).expect("a list").pem().expect("as PEM");
        fs::write(&file, list).expect("it is written");
        file
    }

    /// What a client of this authority knows.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_with(&version::TLS13, None)
    }

    pub(crate) fn client_with(&self, version: &'static SupportedProtocolVersion, own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("it is a CA");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .expect("ring has it")
            .with_root_certificates(roots);
        match own {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_file_iter(&pair.chain).expect("it is there");
                let chain = chain.collect::<Result<_, _>>().expect("it is PEM");
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("it is there");
                config.with_client_auth_cert(chain, key).expect("they fit")
            }
        }
    }
}

impl Pair {
    /// The files with the provider that the clients of tests have.
    pub(crate) fn tls(&self) -> TlsBuilder {
        Tls::provider(ring::default_provider()).pem_files(&self.chain, &self.key)
    }

    /// Puts the files of `other` in place of its own.
    pub(crate) fn replace(&self, other: &Self) {
        copy(&other.chain, &self.chain);
        copy(&other.key, &self.key);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("it is copied");
}

pub(crate) use rcgen::date_time_ymd as time;

/// Connects, and asks for `name`. The handshake is done with the first byte.
pub(crate) fn connect(addr: &ListenAddr, config: &Arc<ClientConfig>, name: &str) -> TlsClient {
    let ListenAddr::Tcp(addr) = addr else { panic!("{addr} is not TCP") };
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("a client"), stream)
}
