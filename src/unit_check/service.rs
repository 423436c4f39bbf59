//! A service with the sockets that are meant for it: the association of `systemd.socket(5)`, and what rules ask of it.

use super::{expectation::Expectation, unit::Unit};

/// A service with its sockets, and what it expects: what a rule looks at.
#[derive(Debug)]
pub(super) struct Service<'a> {
    pub(super) unit: &'a Unit,
    /// Those that start it, those that it asks for with `Sockets=`, and, beside one service alone, those that nothing claims.
    pub(super) sockets: Vec<&'a Unit>,
    /// All units that are checked together.
    pub(super) units: &'a [Unit],
    pub(super) wanted: &'a Expectation,
}

impl<'a> Service<'a> {
    /// Each service among `units`, with its sockets.
    pub(super) fn all(units: &'a [Unit], wanted: &'a Expectation) -> Vec<Self> {
        let services: Vec<_> = units.iter().filter(|unit| unit.is_service()).collect();
        let belongs = |service: &Unit, socket: &&Unit| {
            is_started_by(service, socket)
                || service.words("Service", "Sockets").contains(&socket.name)
                || services.len() == 1
        };
        let with_sockets = |unit: &'a Unit| {
            let sockets = units.iter().filter(|socket| socket.is_socket() && belongs(unit, socket)).collect();
            Self { unit, sockets, units, wanted }
        };
        services.iter().copied().map(with_sockets).collect()
    }

    /// A process for each connection, which it is passed in place of a listening socket.
    pub(super) fn is_per_connection(&self) -> bool {
        self.unit.is_template() && self.sockets.iter().any(|socket| accepts(socket))
    }

    /// The sockets that are passed themselves.
    pub(super) fn listening(&self) -> impl Iterator<Item = &'a Unit> {
        self.sockets.iter().copied().filter(|socket| !accepts(socket))
    }

    pub(super) fn is_socket_activated(&self) -> bool {
        self.listening().next().is_some()
    }

    /// The names under which sockets are passed.
    pub(super) fn passed(&self) -> Vec<String> {
        self.listening().map(passed_name).collect()
    }

    /// Whether a reload starts the next process: not where each connection has one, and not in a container, which ends with its
    /// first process.
    pub(super) fn hands_over(&self) -> bool {
        self.wanted.handoff && !self.is_per_connection() && !self.unit.is_container
    }

    /// `Type=`, as systemd takes it where it is not set.
    pub(super) fn service_type(&self) -> &'a str {
        self.unit.text("Service", "Type").unwrap_or("simple")
    }

    pub(super) fn is_notify(&self) -> bool {
        matches!(self.service_type(), "notify" | "notify-reload")
    }
}

/// Whether systemd accepts for it.
pub(super) fn accepts(socket: &Unit) -> bool {
    socket.is_yes("Socket", "Accept")
}

/// The name under which systemd passes what a socket unit opened.
pub(super) fn passed_name(socket: &Unit) -> String {
    let named = socket.text("Socket", "FileDescriptorName").map(|name| socket.expand(name));
    named.unwrap_or_else(|| socket.name.clone())
}

/// The services that a connection to `socket` starts.
pub(super) fn started(socket: &Unit) -> Vec<String> {
    let named = socket.words("Socket", "Service");
    if !named.is_empty() {
        return named;
    }
    vec![if accepts(socket) { format!("{}@.service", socket.prefix()) } else { format!("{}.service", socket.stem()) }]
}

/// Whether a connection to `socket` starts `service`, or an instance of it.
pub(super) fn is_started_by(service: &Unit, socket: &Unit) -> bool {
    let template = |name: &str| name.split_once('@').map(|(prefix, _)| format!("{prefix}@.service"));
    started(socket).iter().any(|started| {
        let of_template = template(started).is_some_and(|started| started == service.name);
        let of_instance = template(&service.name).is_some_and(|service| service == *started);
        *started == service.name || of_template || of_instance
    })
}
