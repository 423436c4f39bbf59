//! A service and its sockets, as units: where they are read from, and in which order their files count
//! (`systemd.unit(5)`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{finding::Fix, show, unit::Unit};
use crate::error::{Error, Kind};

/// What a fix is called among the drop-ins: nothing comes after it.
const LAST_DROP_IN: &str = "~fixed.conf";

/// The file of which Podman makes a service, podman-systemd.unit(5).
pub(super) const CONTAINER: &str = ".container";

/// A service and its sockets, as unit files or as `systemctl show` tells them.
///
/// ```
/// use axum_activation::unit_check::Units;
///
/// let units = Units::new()
///     .file("app.socket", "[Socket]\nListenStream=8080\nFileDescriptorName=http\n")
///     .file("app.service", "[Service]\nExecStart=/usr/local/bin/app\n")
///     .file("app.service.d/override.conf", "[Service]\nTimeoutStopSec=35\n");
/// # let _ = units;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Units {
    files: Vec<(String, String)>,
    shown: Vec<Unit>,
}

impl Units {
    /// No unit yet.
    ///
    /// ```
    /// use axum_activation::unit_check::Units;
    ///
    /// assert!(!Units::new().has_service());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the text of a unit file, under the unit's name, or of a drop-in, as `app.service.d/override.conf`.
    ///
    /// Drop-ins come after the unit itself and among each other in the order of their names, whenever they are added.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new()
    ///     .file("app.service.d/timeout.conf", "[Service]\nTimeoutStopSec=35\n")
    ///     .file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=5\n");
    /// assert!(check(&units, &Expectation::new()).is_empty(), "the drop-in counts");
    /// ```
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Reads a unit file or a `.container` file of Podman, with the drop-ins in the directory beside it, or a single
    /// drop-in.
    ///
    /// The drop-ins of `app.service` are in `app.service.d/*.conf`. An instance has those of its template too.
    ///
    /// ```
    /// use axum_activation::unit_check::Units;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("app.service");
    /// std::fs::write(&path, "[Service]\nType=notify\nExecStart=/bin/app\n")?;
    ///
    /// let units = Units::new().read(&path)?;
    /// assert!(units.has_service());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is named like neither a service, a socket, a container nor a drop-in of one.
    pub fn read(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let name = name_of(path)?;
        let text = fs::read_to_string(path).map_err(|error| cannot_read(path, error))?;
        let mut units = self.file(name.clone(), text);
        for drop_in in drop_ins(path, &name)? {
            let text = fs::read_to_string(&drop_in).map_err(|error| cannot_read(&drop_in, error))?;
            let file = drop_in.file_name().unwrap_or_default().to_string_lossy();
            units = units.file(format!("{name}.d/{file}"), text);
        }
        Ok(units)
    }

    /// Adds units as `systemctl show app.service app.socket` prints them. Every value is in effect then, with what the
    /// service manager's own configuration says.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let output = "Id=app.service\nLoadState=loaded\nType=simple\nExecStart={ path=/bin/app ; argv[]=/bin/app ; }\n";
    /// let units = Units::new().show(output)?;
    /// assert!(check(&units, &Expectation::new()).iter().any(|finding| finding.directive == "Type"));
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A unit has no `Id=`, or is not known to the service manager.
    pub fn show(mut self, output: &str) -> Result<Self, Error> {
        self.shown.extend(show::parse(output)?);
        Ok(self)
    }

    /// The same units with a [`Fix`] applied: as the last drop-in of its unit, or as the first file of a unit that was
    /// not there.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=5\n");
    /// let findings = check(&units, &Expectation::new());
    /// let units = units.fixed(&findings[0].fix);
    /// assert!(check(&units, &Expectation::new()).is_empty());
    /// ```
    pub fn fixed(self, fix: &Fix) -> Self {
        self.file(format!("{}.d/{LAST_DROP_IN}", fix.unit), fix.drop_in())
    }

    /// Whether there is a service among them: [`check`](super::check) checks no socket without one.
    ///
    /// ```
    /// use axum_activation::unit_check::Units;
    ///
    /// let units = Units::new().file("app.socket", "[Socket]\nListenStream=8080\n");
    /// assert!(!units.has_service());
    /// ```
    #[must_use]
    pub fn has_service(&self) -> bool {
        self.units().iter().any(Unit::is_service)
    }

    /// Each unit with all that is said of it.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut units = self.shown.clone();
        let mut files: Vec<_> = self.files.iter().map(|(name, text)| (drop_in_of(name), name, text)).collect();
        files.sort_by_key(|(drop_in, ..)| drop_in.map(|(_, file)| file));
        for (drop_in, name, text) in files {
            let file = drop_in.map_or(name.as_str(), |(unit, _)| unit);
            let container = file.strip_suffix(CONTAINER).map(|stem| format!("{stem}.service"));
            let unit = container.as_deref().unwrap_or(file);
            let at = units.iter().position(|known| known.name == unit).unwrap_or_else(|| {
                units.push(if container.is_some() { Unit::of_container(unit) } else { Unit::new(unit) });
                units.len() - 1
            });
            units[at].add_file(name, text);
        }
        units
    }
}

/// The unit and the file of `app.service.d/override.conf`.
fn drop_in_of(name: &str) -> Option<(&str, &str)> {
    let (directory, file) = name.rsplit_once('/')?;
    directory.strip_suffix(".d").map(|unit| (unit, file))
}

/// `app.service` of `/etc/systemd/system/app.service`, `app.service.d/x.conf` of a drop-in's path.
fn name_of(path: &Path) -> Result<String, Error> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let parent = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if is_unit(&file) {
        Ok(file.into_owned())
    } else if file.ends_with(".conf") && parent.strip_suffix(".d").is_some_and(is_unit) {
        Ok(format!("{parent}/{file}"))
    } else {
        let problem = "is neither a .service, a .socket, a .container nor a .conf in the .d directory of one";
        Err(Kind::Unit { unit: path.display().to_string(), problem, source: None }.into())
    }
}

fn is_unit(name: &str) -> bool {
    [".service", ".socket", CONTAINER].iter().any(|suffix| name.ends_with(suffix))
}

/// The drop-ins of a unit, which lie in directories beside it.
fn drop_ins(path: &Path, name: &str) -> Result<Vec<PathBuf>, Error> {
    if name.contains('/') {
        return Ok(Vec::new());
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in [Some(format!("{name}.d")), template_of(name).map(|template| format!("{template}.d"))] {
        let Some(directory) = directory.map(|directory| path.with_file_name(directory)) else { continue };
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| cannot_read(&directory, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| cannot_read(&directory, error))?;
            let is_hidden = found.iter().any(|path| path.file_name() == Some(&entry.file_name()));
            if entry.path().extension().is_some_and(|extension| extension == "conf") && !is_hidden {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// `app@.service` of `app@1.service`.
fn template_of(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{suffix}"))
}

fn cannot_read(path: &Path, source: io::Error) -> Error {
    Kind::Unit { unit: path.display().to_string(), problem: "cannot be read", source: Some(source) }.into()
}
