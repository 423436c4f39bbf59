//! What `systemctl show` prints: `KEY=VALUE`, an empty line between two units.
//!
//! The properties are those of D-Bus and not the settings of unit files, so names and forms are changed back:
//! `TimeoutStopUSec` to `TimeoutStopSec`, a command line out of its structure.

use super::{command, unit::Unit};
use crate::error::{Error, Kind};

/// Properties that a unit file has in its `[Unit]` section.
const OF_UNIT: &[&str] = &["StartLimitBurst", "StartLimitIntervalSec"];

/// Every unit of `text`.
pub(super) fn parse(text: &str) -> Result<Vec<Unit>, Error> {
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    let units: Vec<_> = blocks.map(parse_unit).collect::<Result<_, _>>()?;
    if units.is_empty() { Err(no_unit("it is empty")) } else { Ok(units) }
}

fn parse_unit(block: &str) -> Result<Unit, Error> {
    let properties: Vec<_> = block.lines().filter_map(|line| line.split_once('=')).collect();
    let id = properties.iter().find(|(key, _)| *key == "Id").map(|(_, id)| *id);
    let mut unit = Unit::new(id.ok_or_else(|| no_unit("it has no Id="))?);
    unit.is_shown = true;
    if properties.contains(&("LoadState", "not-found")) {
        return Err(
            Kind::Unit { unit: unit.name, problem: "the service manager knows no such unit", source: None }.into()
        );
    }
    for (key, value) in &properties {
        add(&mut unit, key, value);
    }
    Ok(unit)
}

/// Adds a property under the name and in the form that a unit file has for it.
fn add(unit: &mut Unit, key: &str, value: &str) {
    let own = if unit.is_socket() { "Socket" } else { "Service" };
    match key {
        "ExecStart" | "ExecReload" | "ExecReloadPost" => {
            if let Some(line) = command_line(value) {
                unit.add_shown(own, key, &command::requote(line));
            }
        }
        "Listen" => {
            if let Some(address) = value.strip_suffix(" (Stream)") {
                unit.add_shown(own, "ListenStream", address);
            }
        }
        "Triggers" => unit.add_shown(own, "Service", value),
        "TriggeredBy" => unit.add_shown(own, "Sockets", value),
        "LimitNOFILE" => {}
        "LimitNOFILESoft" => unit.add_shown(own, "LimitNOFILE", value),
        // Not set, as against set to 0.
        "WatchdogUSec" if value == "infinity" => {}
        "RestrictAddressFamilies" if value == "~" => {}
        _ => {
            let key = key.strip_suffix("USec").map_or_else(|| key.to_owned(), |stem| format!("{stem}Sec"));
            let section = if OF_UNIT.contains(&key.as_str()) { "Unit" } else { own };
            unit.add_shown(section, &key, value);
        }
    }
}

/// `argv[]` of `{ path=/bin/x ; argv[]=/bin/x y ; ignore_errors=no ; ... }`.
fn command_line(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("argv[]=")?;
    rest.rsplit_once(" ; ignore_errors=").map(|(line, _)| line)
}

fn no_unit(problem: &'static str) -> Error {
    Kind::Unit { unit: "the output of systemctl show".to_owned(), problem, source: None }.into()
}
