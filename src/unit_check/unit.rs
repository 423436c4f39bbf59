//! One unit: what its files, or the service manager, say about it.
//!
//! Assignments are kept in their order, as later ones replace, add or reset depending on the setting. Each remembers
//! its file and line, so that a finding can point there.

use std::time::Duration;

use super::{syntax, value};

/// What the service manager does where a unit says nothing, systemd-system.conf(5).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

/// The settings of a socket unit that open something, systemd.socket(5).
const LISTENS: &[&str] = &[
    "ListenStream",
    "ListenDatagram",
    "ListenSequentialPacket",
    "ListenFIFO",
    "ListenSpecial",
    "ListenNetlink",
    "ListenMessageQueue",
    "ListenUSBFunction",
];

/// A service or a socket unit.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    /// The service manager was asked, so that every value is an effective one, also where no file says it.
    pub(super) is_shown: bool,
    /// Podman makes it of a `.container` file, podman-systemd.unit(5).
    pub(super) is_container: bool,
    settings: Vec<Setting>,
}

/// One assignment and where it is written.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    section: String,
    pub(super) key: String,
    pub(super) value: String,
    /// The file and the line.
    pub(super) place: Option<(String, usize)>,
}

impl Unit {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), is_shown: false, is_container: false, settings: Vec::new() }
    }

    /// The service that Podman makes of a `.container` file, with what Podman writes into it.
    pub(super) fn of_container(name: &str) -> Self {
        let mut unit = Self { is_container: true, ..Self::new(name) };
        for (key, value) in
            [("Type", "notify"), ("NotifyAccess", "all"), ("KillMode", "mixed"), ("ExecStart", "/usr/bin/podman run")]
        {
            unit.add_shown("Service", key, value);
        }
        unit
    }

    /// Adds what a file says, after all that was there.
    pub(super) fn add_file(&mut self, file: &str, text: &str) {
        self.settings.extend(syntax::parse(text).into_iter().map(|assignment| Setting {
            section: assignment.section,
            key: assignment.key,
            value: assignment.value,
            place: Some((file.to_owned(), assignment.line)),
        }));
    }

    /// Adds a value that the service manager tells.
    pub(super) fn add_shown(&mut self, section: &str, key: &str, value: &str) {
        let (section, key, value) = (section.to_owned(), key.to_owned(), value.to_owned());
        self.settings.push(Setting { section, key, value, place: None });
    }

    pub(super) fn is_service(&self) -> bool {
        self.name.ends_with(".service")
    }

    pub(super) fn is_socket(&self) -> bool {
        self.name.ends_with(".socket")
    }

    /// The name up to the suffix: `app@1` of `app@1.service`.
    pub(super) fn stem(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(stem, _)| stem)
    }

    /// The name up to the instance or the suffix: `app` of `app@1.service`.
    pub(super) fn prefix(&self) -> &str {
        self.stem().split('@').next().unwrap_or_default()
    }

    /// Between `@` and the suffix; empty for the template itself.
    fn instance(&self) -> Option<&str> {
        self.stem().split_once('@').map(|(_, instance)| instance)
    }

    pub(super) fn is_template(&self) -> bool {
        self.instance().is_some()
    }

    /// Every assignment of these keys since the last empty one, in order.
    pub(super) fn list(&self, section: &str, keys: &[&str]) -> Vec<&Setting> {
        let mut list = Vec::new();
        for setting in self.settings.iter().filter(|setting| setting.is(section, keys)) {
            if setting.value.is_empty() {
                list.clear();
            } else {
                list.push(setting);
            }
        }
        list
    }

    /// What the last assignment of these keys says that can be understood; nothing after an empty one, which resets.
    pub(super) fn last<T>(&self, section: &str, keys: &[&str], read: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.list(section, keys).into_iter().rev().find_map(|setting| read(&setting.value))
    }

    pub(super) fn text(&self, section: &str, key: &str) -> Option<&str> {
        self.list(section, &[key]).pop().map(|setting| setting.value.as_str())
    }

    pub(super) fn is_yes(&self, section: &str, key: &str) -> bool {
        self.last(section, &[key], value::boolean).unwrap_or(false)
    }

    /// The words of a list such as `RuntimeDirectory=`, specifiers resolved.
    pub(super) fn words(&self, section: &str, key: &str) -> Vec<String> {
        let settings = self.list(section, &[key]);
        settings.iter().flat_map(|setting| setting.value.split_whitespace()).map(|word| self.expand(word)).collect()
    }

    /// `TimeoutStartSec=` or `TimeoutStopSec=`, or `TimeoutSec=` for both.
    pub(super) fn timeout(&self, key: &str) -> Duration {
        self.last("Service", &[key, "TimeoutSec"], value::time_limit).unwrap_or(DEFAULT_TIMEOUT)
    }

    /// What a socket unit opens, each with its key, in order. An empty assignment of any of the keys drops all before it.
    pub(super) fn listens(&self) -> Vec<&Setting> {
        self.list("Socket", LISTENS)
    }

    /// Where the last assignment of a key is written.
    pub(super) fn place(&self, section: &str, key: &str) -> Option<(String, usize)> {
        self.settings.iter().rev().find(|setting| setting.is(section, &[key])).and_then(|setting| setting.place.clone())
    }

    /// The specifiers of systemd.unit(5) that tell the unit's name; others stay as they are.
    pub(super) fn expand(&self, text: &str) -> String {
        let mut expanded = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match if letter == '%' { letters.next() } else { None } {
                Some('n') => expanded += &self.name,
                Some('N') => expanded += self.stem(),
                Some('p' | 'P') => expanded += self.prefix(),
                Some('i' | 'I') if self.instance() != Some("") => expanded += self.instance().unwrap_or_default(),
                Some('j' | 'J') => expanded += self.prefix().rsplit('-').next().unwrap_or_default(),
                Some('t') => expanded += "/run",
                Some('%') => expanded.push('%'),
                Some(other) => expanded.extend(['%', other]),
                None => expanded.push(letter),
            }
        }
        expanded
    }
}

impl Setting {
    fn is(&self, section: &str, keys: &[&str]) -> bool {
        self.section == section && keys.contains(&self.key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, text: &str) -> Unit {
        let mut unit = Unit::new(name);
        unit.add_file(name, text);
        unit
    }

    #[test]
    fn the_last_value_counts_an_empty_one_resets_and_nonsense_is_passed_over() {
        let unit =
            unit("a.service", "[Service]\nA=yes\nA=perhaps\nB=yes\nB=\nL=1\nL=2\nL=\nL=3\nL=4\n[Unit]\nA=no\nC=yes");
        assert!(unit.is_yes("Service", "A"));
        assert!(!unit.is_yes("Service", "B"));
        assert!(!unit.is_yes("Service", "C"));
        assert_eq!(unit.words("Service", "L"), ["3", "4"]);
        assert_eq!(unit.place("Service", "A"), Some(("a.service".to_owned(), 3)));
    }

    #[test]
    fn one_timeout_for_both_is_as_good_as_each() {
        let of = |text: &str| unit("a.service", &format!("[Service]\n{text}")).timeout("TimeoutStopSec").as_secs();
        assert_eq!(of(""), 90);
        assert_eq!(of("TimeoutStopSec=5"), 5);
        assert_eq!(of("TimeoutStopSec=5\nTimeoutSec=1min"), 60);
        assert_eq!(of("TimeoutSec=1min\nTimeoutStopSec=5"), 5);
        assert_eq!(of("TimeoutStopSec=5\nTimeoutStopSec="), 90);
        assert_eq!(of("TimeoutStopSec=0"), u64::MAX);
    }

    #[test]
    fn specifiers_tell_the_name() {
        let expand = |name: &str| unit(name, "").expand("%n %N %p %i %j 100%% %h");
        assert_eq!(expand("my-app@1.service"), "my-app@1.service my-app@1 my-app 1 app 100% %h");
        assert_eq!(expand("app.socket"), "app.socket app app  app 100% %h");
        assert_eq!(expand("app@.socket"), "app@.socket app@ app %i app 100% %h");
    }
}
