//! What may be wrong with a unit. A rule is a function that finds one fault, with the setting that fixes it.
//!
//! A rule looks at one service with its sockets, and answers with nothing or with one finding. It says what comes of
//! the fault, in terms of requests that are lost, as the reader may have had a reason for the setting. Its fix is a
//! line that systemd reads; applied, the rule finds nothing any more. `tests/unit_check/` holds both for every rule.
//!
//! A new rule is a function in the file of its topic, and a line in [`RULES`] or [`SOCKET_RULES`]. What a value means
//! comes from the man page that its directive is in (`systemd.directives(7)` has the index), and where versions of
//! systemd differ the comment names the version.

mod container;
mod handoff;
mod notify;
mod paths;
mod sockets;
mod start;
mod stop;
mod store;

use super::{finding::Finding, service::Service, unit::Unit};

/// A rule on a service.
type Rule = fn(&Service<'_>) -> Option<Finding>;

/// A rule on each of its sockets.
type SocketRule = fn(&Service<'_>, &Unit) -> Option<Finding>;

/// The rules on services, in the order in which their findings are shown.
const RULES: &[Rule] = &[
    notify::service_type,
    notify::access,
    notify::access_for_all,
    notify::watchdog,
    notify::address_families,
    start::shell,
    start::script,
    start::non_blocking,
    start::start_limit,
    start::standard_input,
    start::remains,
    start::restarts,
    start::open_files,
    stop::kill_mode,
    stop::kill_signal,
    stop::restart_kill_signal,
    stop::timeout,
    handoff::reload_command,
    handoff::second_request,
    handoff::stopped_reload,
    handoff::reload_signal,
    handoff::timeout,
    handoff::working_directory,
    store::size,
    store::restart,
    store::kept_directory,
    paths::runtime_directory,
    paths::private_tmp,
    paths::read_only,
    container::notify,
    container::first_process,
    container::shell,
    container::stop_timeout,
    container::stop_limit,
];

/// The rules on sockets, asked for each socket of a service.
const SOCKET_RULES: &[SocketRule] = &[
    sockets::accept,
    sockets::started_service,
    sockets::trigger_limit,
    sockets::deferred,
    sockets::deferred_limit,
    sockets::flush,
    sockets::owner,
    sockets::runtime_directory,
];

/// Applies all rules to a service and its sockets.
pub(super) fn apply(service: &Service<'_>) -> Vec<Finding> {
    let mut findings: Vec<_> = RULES.iter().filter_map(|rule| rule(service)).collect();
    for socket in &service.sockets {
        findings.extend(SOCKET_RULES.iter().filter_map(|rule| rule(service, socket)));
    }
    findings.extend(sockets::names(service));
    findings
}
