//! Whether a unit is right for a service of this crate, and the line that fixes it where it is not.
//!
//! A unit can pass `systemd-analyze verify` and still lose requests: it does not know how long the service drains, which names
//! it serves, or that it hands over. [`check`] does, with an [`Expectation`]:
//!
//! ```
//! use std::time::Duration;
//! use axum_activation::unit_check::{Expectation, Units, check};
//!
//! let units = Units::new()
//!     .file("app.socket", "[Socket]\nListenStream=8080\nFileDescriptorName=http\n")
//!     .file(
//!         "app.service",
//!         "[Unit]\nStartLimitIntervalSec=0\n\
//!          [Service]\nType=notify\nExecStart=/usr/local/bin/app\nNonBlocking=yes\nTimeoutStopSec=10\n",
//!     );
//! let expectation = Expectation::new().name("http").drain_timeout(Duration::from_secs(30));
//!
//! let findings = check(&units, &expectation);
//! assert_eq!(findings.len(), 1);
//! assert_eq!(findings[0].directive, "TimeoutStopSec");
//! assert_eq!(findings[0].fix.to_string(), "in app.service, [Service]: TimeoutStopSec=35");
//! assert!(check(&units.fixed(&findings[0].fix), &expectation).is_empty());
//! ```
//!
//! The program `examples/check.rs` does the same from a command line. Which faults are known is in `docs/reference/units.md`.
//! Nothing is started and no service manager asked; of the files that a unit names, a script of `ExecStart=` is read and
//! `WorkingDirectory=` looked at where they are there. Unknown keys and misplaced sections are left to `systemd-analyze verify`.

mod command;
mod expectation;
mod finding;
mod rules;
mod service;
mod show;
mod syntax;
mod unit;
mod units;
mod value;

use self::service::Service;
pub use self::{
    expectation::Expectation,
    finding::{Finding, Fix, Severity},
    units::Units,
    value::time_span,
};

/// Finds what is wrong with `units` for a service that expects this, in the order of the units. It is empty if nothing
/// is.
///
/// Each service among the units is checked with its sockets: those that start it (`Service=`, or the same name), those
/// that it asks for (`Sockets=`), and beside one service alone all of them.
///
/// ```
/// use axum_activation::unit_check::{Expectation, Severity, Units, check};
///
/// let units = Units::new().file("app.service", "[Service]\nType=simple\nExecStart=/usr/local/bin/app\n");
/// let findings = check(&units, &Expectation::new());
/// for finding in &findings {
///     println!("{finding}");
/// }
/// assert!(findings.iter().any(|finding| finding.severity == Severity::Warning && finding.directive == "Type"));
/// ```
#[must_use]
pub fn check(units: &Units, expectation: &Expectation) -> Vec<Finding> {
    let units = units.units();
    Service::all(&units, expectation).iter().flat_map(rules::apply).collect()
}
