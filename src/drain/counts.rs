//! Counts of connections by what they are, and by why they did not move; and of handshakes by why they failed.

use std::{array, fmt, iter::Sum};

use super::{handshakes::HandshakeFailure, kind::ConnectionKind, unmoved::UnmovedReason};

/// How many connections moved to the next process, or from the one before, by kind.
///
/// It prints what is not 0, as `300 http1, 12 upgraded`.
///
/// ```
/// use axum_activation::{DrainReport, drain::ConnectionKind};
///
/// fn websockets(report: &DrainReport) -> u64 {
///     report.listeners.iter().map(|listener| listener.moved_by_kind.of(ConnectionKind::Upgraded)).sum()
/// }
/// # let _ = websockets;
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct MovedByKind([u64; ConnectionKind::ALL.len()]);

/// How many connections did not move, by reason.
///
/// It prints what is not 0, as `3 open_streams, 1 no_room`.
///
/// ```
/// use axum_activation::{DrainReport, drain::UnmovedReason};
///
/// fn for_want_of_room(report: &DrainReport) -> u64 {
///     report.listeners.iter().map(|listener| listener.unmoved_by_reason.of(UnmovedReason::NoRoom)).sum()
/// }
/// # let _ = for_want_of_room;
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct UnmovedByReason([u64; UnmovedReason::ALL.len()]);

/// How many TLS handshakes failed, by reason.
///
/// It prints what is not 0, as `3 timeout, 1 alert`.
///
/// ```
/// use axum_activation::{drain::HandshakeFailure, drain::ListenerStats};
///
/// fn refused_by_clients(stats: &ListenerStats) -> u64 {
///     stats.handshakes.failed.of(HandshakeFailure::Alert)
/// }
/// # let _ = refused_by_clients;
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FailedHandshakes([u64; HandshakeFailure::ALL.len()]);

/// Counts for each value of an enum that has `ALL` and `name`.
macro_rules! counts {
    ($counts:ident of $key:ident, $one:literal) => {
        impl $counts {
            pub(super) fn new(counts: [u64; $key::ALL.len()]) -> Self {
                Self(counts)
            }

            #[doc = concat!("How many for one [`", stringify!($key), "`].")]
            ///
            /// ```
            #[doc = concat!("use axum_activation::drain::{", stringify!($counts), ", ", stringify!($key), "};")]
            ///
            #[doc = concat!("assert_eq!(", stringify!($counts), "::default().of(", stringify!($key), "::", $one, "), 0);")]
            /// ```
            #[must_use]
            pub fn of(&self, key: $key) -> u64 {
                self.0[key as usize]
            }

            /// Each with its count, also where that is 0.
            ///
            /// ```
            #[doc = concat!("use axum_activation::drain::", stringify!($counts), ";")]
            ///
            #[doc = concat!("assert!(", stringify!($counts), "::default().iter().all(|(_, count)| count == 0));")]
            /// ```
            pub fn iter(&self) -> impl Iterator<Item = ($key, u64)> + use<> {
                $key::ALL.iter().copied().zip(self.0)
            }

            /// All of them.
            ///
            /// ```
            #[doc = concat!("use axum_activation::drain::", stringify!($counts), ";")]
            ///
            #[doc = concat!("assert_eq!(", stringify!($counts), "::default().total(), 0);")]
            /// ```
            #[must_use]
            pub fn total(&self) -> u64 {
                self.0.iter().sum()
            }
        }

        /// Of several listeners.
        impl Sum for $counts {
            fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
                counts.fold(Self::default(), |sum, more| Self(array::from_fn(|at| sum.0[at] + more.0[at])))
            }
        }

        /// Each that is not 0, with its count.
        impl fmt::Debug for $counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
            }
        }

        impl fmt::Display for $counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_counts(f, self.iter())
            }
        }
    };
}

counts!(MovedByKind of ConnectionKind, "Http2");
counts!(UnmovedByReason of UnmovedReason, "Busy");
counts!(FailedHandshakes of HandshakeFailure, "Timeout");

/// What is not 0, each count before its name; `0` if there is nothing.
fn write_counts(f: &mut fmt::Formatter<'_>, counts: impl Iterator<Item = (impl fmt::Display, u64)>) -> fmt::Result {
    let mut counts = counts.filter(|(_, count)| *count > 0).peekable();
    if counts.peek().is_none() {
        return f.write_str("0");
    }
    for (position, (name, count)) in counts.enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        write!(f, "{separator}{count} {name}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_names_and_print_what_is_not_zero() {
        let moved = MovedByKind::new([300, 0, 12, 0]);
        assert_eq!((moved.of(ConnectionKind::Upgraded), moved.total()), (12, 312));
        assert_eq!(moved.to_string(), "300 http1, 12 upgraded");
        assert_eq!([moved, moved].into_iter().sum::<MovedByKind>().to_string(), "600 http1, 24 upgraded");
        assert_eq!(MovedByKind::default().to_string(), "0");

        let unmoved = UnmovedByReason::new(array::from_fn(|at| u64::from(at == UnmovedReason::NoRoom as usize)));
        assert_eq!((unmoved.of(UnmovedReason::NoRoom), unmoved.of(UnmovedReason::Busy), unmoved.total()), (1, 0, 1));
        assert_eq!([unmoved, unmoved].into_iter().sum::<UnmovedByReason>().to_string(), "2 no_room");
    }
}
