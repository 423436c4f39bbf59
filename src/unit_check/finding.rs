//! A fault of a unit, and the lines that correct it.

use std::fmt;

use super::unit::Unit;

/// Something that is wrong, and what fixes it.
///
/// ```
/// use axum_activation::unit_check::{Expectation, Units, check};
///
/// let units = Units::new().file("app.service", "[Service]\nType=notify\nKillMode=mixed\nExecStart=/bin/app\n");
/// let findings = check(&units, &Expectation::new().handoff(true));
/// let killed = findings.iter().find(|finding| finding.directive == "KillMode").expect("it is found");
/// assert_eq!(killed.fix.lines, ["KillMode=control-group"]);
/// assert_eq!(killed.fix.drop_in(), "[Service]\nKillMode=control-group\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The unit that it is about.
    pub unit: String,
    /// The file and the line where it is written, unless it is not written, or was shown by the service manager.
    pub place: Option<(String, usize)>,
    /// The setting that is wrong or missing.
    pub directive: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what comes of it.
    pub problem: String,
    /// What fixes it.
    pub fix: Fix,
}

/// How bad a [`Finding`] is. An error is greater than a warning.
///
/// ```
/// use axum_activation::unit_check::Severity;
///
/// assert!(Severity::Error > Severity::Warning);
/// assert_eq!(Severity::Warning.to_string(), "warning");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It works, and worse than it could, or until the day that something goes wrong.
    Warning,
    /// Requests are lost, or the service does not do what is expected of it.
    Error,
}

/// Lines that fix a [`Finding`], for a drop-in or in place of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fix {
    /// The unit that they belong in.
    pub unit: String,
    /// The section that they belong in, without brackets.
    pub section: &'static str,
    /// The lines. An empty assignment drops what was there before.
    pub lines: Vec<String>,
}

impl Finding {
    pub(super) fn error(unit: &Unit, section: &'static str, directive: &'static str, problem: String) -> Self {
        let fix = Fix { unit: unit.name.clone(), section, lines: Vec::new() };
        let place = unit.place(section, directive);
        Self { unit: unit.name.clone(), place, directive, severity: Severity::Error, problem, fix }
    }

    pub(super) fn warning(unit: &Unit, section: &'static str, directive: &'static str, problem: String) -> Self {
        Self { severity: Severity::Warning, ..Self::error(unit, section, directive, problem) }
    }

    /// Adds a line that fixes it.
    pub(super) fn fix(mut self, line: impl Into<String>) -> Self {
        self.fix.lines.push(line.into());
        self
    }

    /// The fix belongs in another unit, which may not be there yet.
    pub(super) fn fix_in(mut self, unit: String, section: &'static str) -> Self {
        (self.fix.unit, self.fix.section) = (unit, section);
        self
    }
}

impl Fix {
    /// The text of a drop-in, for `/etc/systemd/system/UNIT.d/NAME.conf` (`systemd.unit(5)`).
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=5\n");
    /// let findings = check(&units, &Expectation::new());
    /// assert_eq!(findings[0].fix.drop_in(), "[Service]\nTimeoutStopSec=35\n");
    /// ```
    #[must_use]
    pub fn drop_in(&self) -> String {
        format!("[{}]\n{}\n", self.section, self.lines.join("\n"))
    }
}

/// What is wrong on one line, the [`Fix`] below it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((file, line)) => write!(f, "{file}:{line}")?,
            None => f.write_str(&self.unit)?,
        }
        write!(f, ": {}: {}\n    {}", self.severity, self.problem, self.fix)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// `in app.service, [Service]: KillMode=control-group`; several lines are put below each other.
impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {}, [{}]:", self.unit, self.section)?;
        match self.lines.as_slice() {
            [line] => write!(f, " {line}"),
            lines => lines.iter().try_for_each(|line| write!(f, "\n        {line}")),
        }
    }
}
