//! What a request can ask about its connection.

use std::{fmt, sync::Arc};

use rustls::{
    CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection, SupportedCipherSuite, pki_types::CertificateDer,
};

/// Extractor: what the client and the server have agreed upon in the handshake. Cheap to clone.
///
/// It is there under [`Server`](crate::Server) on a listener with TLS, and under `axum::serve` as
/// `ConnectInfo<TlsInfo>`. Elsewhere it is rejected; `Option<TlsInfo>` is `None`.
///
/// ```
/// use axum::{Router, routing::get};
/// use axum_activation::tls::TlsInfo;
///
/// async fn whoami(tls: TlsInfo) -> String {
///     format!("{:?}, {} client certificates", tls.version(), tls.client_certificates().len())
/// }
/// let app: Router = Router::new().route("/", get(whoami));
/// # let _ = app;
/// ```
#[derive(Clone)]
pub struct TlsInfo(Arc<Agreed>);

struct Agreed {
    version: ProtocolVersion,
    suite: CipherSuite,
    server_name: Option<Box<str>>,
    alpn_protocol: Option<Box<[u8]>>,
    client_certificates: Vec<CertificateDer<'static>>,
    is_resumed: bool,
}

impl TlsInfo {
    /// Of a connection whose handshake is done.
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let version = connection.protocol_version().unwrap_or(ProtocolVersion::Unknown(0));
        let suite =
            connection.negotiated_cipher_suite().as_ref().map_or(CipherSuite::Unknown(0), SupportedCipherSuite::suite);
        Self(Arc::new(Agreed {
            version,
            suite,
            server_name: connection.server_name().map(Into::into),
            alpn_protocol: connection.alpn_protocol().map(Into::into),
            client_certificates: connection.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }))
    }

    /// The version of TLS: 1.2 or 1.3.
    ///
    /// ```
    /// use axum_activation::tls::{TlsInfo, rustls::ProtocolVersion};
    ///
    /// fn is_old(tls: &TlsInfo) -> bool {
    ///     tls.version() == ProtocolVersion::TLSv1_2
    /// }
    /// # let _ = is_old;
    /// ```
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.0.version
    }

    /// The cipher suite.
    ///
    /// ```
    /// use axum_activation::tls::TlsInfo;
    ///
    /// fn line(tls: &TlsInfo) -> String {
    ///     format!("{:?}", tls.cipher_suite()) // TLS13_AES_256_GCM_SHA384
    /// }
    /// # let _ = line;
    /// ```
    #[must_use]
    pub fn cipher_suite(&self) -> CipherSuite {
        self.0.suite
    }

    /// The name of the server that the client asked for (SNI, RFC 6066, section 3). The client may ask for any name: only a request's `Host` or
    /// `:authority` says what it wants of an application.
    ///
    /// ```
    /// use axum_activation::tls::TlsInfo;
    ///
    /// fn name(tls: &TlsInfo) -> &str {
    ///     tls.server_name().unwrap_or("none")
    /// }
    /// # let _ = name;
    /// ```
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// The protocol that both have chosen (ALPN, RFC 7301): `h2` or `http/1.1`, or `None` if the client offered none.
    ///
    /// ```
    /// use axum_activation::tls::TlsInfo;
    ///
    /// fn is_http2(tls: &TlsInfo) -> bool {
    ///     tls.alpn_protocol() == Some(b"h2")
    /// }
    /// # let _ = is_http2;
    /// ```
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.0.alpn_protocol.as_deref()
    }

    /// The certificates that the client has sent and the verifier has accepted, its own first; none if it was not asked, or has none.
    ///
    /// ```
    /// use axum_activation::tls::TlsInfo;
    ///
    /// fn has_certificate(tls: &TlsInfo) -> bool {
    ///     !tls.client_certificates().is_empty()
    /// }
    /// # let _ = has_certificate;
    /// ```
    #[must_use]
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.client_certificates
    }

    /// Whether the handshake was a short one, as the client came back with a session that it had before.
    ///
    /// ```
    /// use axum_activation::tls::TlsInfo;
    ///
    /// fn kind(tls: &TlsInfo) -> &'static str {
    ///     if tls.is_resumed() { "resumed" } else { "full" }
    /// }
    /// # let _ = kind;
    /// ```
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.0.is_resumed
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alpn_protocol = self.alpn_protocol().map(String::from_utf8_lossy);
        f.debug_struct("TlsInfo")
            .field("version", &self.version())
            .field("cipher_suite", &self.cipher_suite())
            .field("server_name", &self.server_name())
            .field("alpn_protocol", &alpn_protocol)
            .field("client_certificates", &self.client_certificates().len())
            .field("is_resumed", &self.is_resumed())
            .finish()
    }
}
