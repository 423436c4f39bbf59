//! Why a TLS handshake failed.

use std::fmt;

/// Why a TLS handshake failed.
///
/// ```
/// use axum_activation::drain::HandshakeFailure;
///
/// assert_eq!(HandshakeFailure::ClearText.to_string(), "clear_text");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// The client does not speak TLS: it sent a request in clear, or something else.
    ClearText,
    /// The handshake was not done within [`handshake_timeout`](crate::tls::Tls::handshake_timeout).
    Timeout,
    /// The client closed the connection, or reset it.
    Closed,
    /// The client and this server have no version, cipher suite or protocol in common.
    Incompatible,
    /// The client sent no certificate, or one that is not accepted.
    ClientCertificate,
    /// The client refused with an alert. Most often it does not trust the certificate of this server.
    Alert,
    /// The client broke the protocol.
    Malformed,
    /// The drain was aborted meanwhile.
    Aborted,
}

impl HandshakeFailure {
    /// Every reason, in the order of a report.
    ///
    /// ```
    /// use axum_activation::drain::HandshakeFailure;
    ///
    /// assert!(HandshakeFailure::ALL.contains(&HandshakeFailure::Alert));
    /// ```
    pub const ALL: &[Self] = &[
        Self::ClearText,
        Self::Timeout,
        Self::Closed,
        Self::Incompatible,
        Self::ClientCertificate,
        Self::Alert,
        Self::Malformed,
        Self::Aborted,
    ];

    /// The name of the reason in the log and as a label of a metric.
    ///
    /// ```
    /// use axum_activation::drain::HandshakeFailure;
    ///
    /// assert_eq!(HandshakeFailure::ClientCertificate.name(), "client_certificate");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClearText => "clear_text",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Incompatible => "incompatible",
            Self::ClientCertificate => "client_certificate",
            Self::Alert => "alert",
            Self::Malformed => "malformed",
            Self::Aborted => "aborted",
        }
    }
}

/// Its [`name`](Self::name).
impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_at_its_own_number() {
        for (number, reason) in HandshakeFailure::ALL.iter().copied().enumerate() {
            assert_eq!(reason as usize, number, "{reason}");
        }
    }
}
