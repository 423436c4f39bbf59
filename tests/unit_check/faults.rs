//! The ways that are shipped, and each of them made wrong.

use std::{fmt, time::Duration};

use axum_activation::unit_check::{Expectation, Severity};

use crate::support::systemd::shipped;

/// A way to run a service, of those in `examples/systemd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Named,
    Accept,
    Managed,
    Idle,
    Restart,
    Reload,
    NotifyReload,
    Store,
    Hardened,
}

/// Units of a way with one thing wrong.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) way: Way,
    /// The unit that is wrong.
    pub(crate) unit: &'static str,
    pub(crate) directive: &'static str,
    pub(crate) severity: Severity,
    /// Lines of the unit, and what is there instead.
    edits: Vec<(&'static str, &'static str)>,
    /// What is added to the unit's own section.
    added: &'static str,
    expecting: fn(Expectation) -> Expectation,
    /// Once it is fixed, there is more to do.
    pub(crate) has_more_to_fix: bool,
    /// It can be seen in what `systemctl show` tells of a service that does not run; of an unknown setting it tells nothing.
    pub(crate) is_shown: bool,
}

impl Way {
    pub(crate) const ALL: [Self; 9] = [
        Self::Named,
        Self::Accept,
        Self::Managed,
        Self::Idle,
        Self::Restart,
        Self::Reload,
        Self::NotifyReload,
        Self::Store,
        Self::Hardened,
    ];

    pub(crate) fn shipped(self) -> &'static [&'static str] {
        match self {
            Self::Named => &["named.service", "named-http.socket", "named-admin.socket", "named-metrics.socket"],
            Self::Accept => &["inetd@.service", "inetd.socket"],
            Self::Managed => &["managed.service", "managed.socket"],
            Self::Idle => &["idle.service", "idle.socket"],
            Self::Restart => &["app-restart.service", "app-restart.socket"],
            Self::Reload => &["app-reload.service", "app-reload.socket"],
            Self::NotifyReload => &["app-reload.service", "app-reload.socket", "app-notify-reload.conf"],
            Self::Store => &["app-store.service", "app-store.socket"],
            Self::Hardened => &["app-hardened.service", "app-hardened.socket"],
        }
    }

    pub(crate) fn files(self) -> Vec<(String, String)> {
        let installed = |name: &str| match name {
            "app-notify-reload.conf" => "app-reload.service.d/app-notify-reload.conf".to_owned(),
            name => name.to_owned(),
        };
        self.shipped().iter().copied().map(shipped).map(|(name, text)| (installed(name), text)).collect()
    }

    pub(crate) fn expectation(self) -> Expectation {
        let http = Expectation::new().name("http");
        let admin = |http: Expectation, path| http.fallback("admin", path).expect("an address");
        match self {
            Self::Named => http.name("admin").name("metrics"),
            Self::Accept | Self::Managed | Self::Restart => http,
            Self::Idle => http.idle_exit(true),
            Self::Reload | Self::NotifyReload => http.handoff_socket("/run/app-reload/handoff.sock"),
            Self::Store => admin(http.fd_store(512), "/run/app-store/admin.sock"),
            Self::Hardened => admin(http.fd_store(512), "/run/app-hardened/admin.sock")
                .handoff_socket("/run/app-hardened/handoff.sock")
                .connections(2000),
        }
    }
}

impl Fault {
    fn new(way: Way, unit: &'static str, directive: &'static str, severity: Severity) -> Self {
        let (edits, expecting) = (Vec::new(), |expectation| expectation);
        Self { way, unit, directive, severity, edits, added: "", expecting, has_more_to_fix: false, is_shown: true }
    }

    fn edit(mut self, line: &'static str, instead: &'static str) -> Self {
        self.edits.push((line, instead));
        self
    }

    fn add(mut self, lines: &'static str) -> Self {
        self.added = lines;
        self
    }

    fn expecting(mut self, expecting: fn(Expectation) -> Expectation) -> Self {
        self.expecting = expecting;
        self
    }

    fn with_more_to_fix(mut self) -> Self {
        self.has_more_to_fix = true;
        self
    }

    fn not_shown(mut self) -> Self {
        self.is_shown = false;
        self
    }

    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let mut files = self.way.files();
        let (name, text) = files.iter_mut().find(|(name, _)| name == self.unit).expect("a shipped unit");
        for (line, instead) in &self.edits {
            let line = format!("\n{line}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line:?} in {name}");
            *text = text.replace(&line, &format!("\n{instead}\n"));
        }
        let section = if name.ends_with(".service") { "Service" } else { "Socket" };
        *text += &format!("[{section}]\n{}\n", self.added);
        files
    }

    pub(crate) fn expectation(&self) -> Expectation {
        (self.expecting)(self.way.expectation())
    }

    /// Then the name is what the problem is about.
    pub(crate) fn is_about_a_name(&self) -> bool {
        ["FileDescriptorName", "Sockets"].contains(&self.directive)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {:?} with {:?}{:?}, expecting {:?}",
            self.unit,
            self.way,
            self.edits,
            self.added,
            self.expectation()
        )
    }
}

/// At least one for each setting that is looked at.
pub(crate) fn faults() -> Vec<Fault> {
    use Severity::{Error, Warning};
    use Way::{Accept, Named, Reload, Restart, Store};
    vec![
        in_service(Restart, "Type", Warning).edit("Type=notify", "Type=exec").edit("WatchdogSec=30", ""),
        in_service(Restart, "Type", Warning).edit("Type=notify", "").edit("WatchdogSec=30", ""),
        in_service(Restart, "Type", Error).edit("Type=notify", "Type=forking"),
        in_service(Restart, "Type", Error).edit("Type=notify", "Type=oneshot").edit("Restart=on-failure", ""),
        in_service(Restart, "Type", Error).edit("WatchdogSec=30", "").expecting(|service| service.notify(false)),
        in_service(Reload, "Type", Error).edit("Type=notify", "Type=exec"),
        in_service(Restart, "NotifyAccess", Error)
            .edit("Type=notify", "Type=exec\nNotifyAccess=none")
            .edit("WatchdogSec=30", "")
            .not_shown(),
        in_service(Reload, "NotifyAccess", Warning).edit("NotifyAccess=main", "NotifyAccess=none").not_shown(),
        in_service(Restart, "WatchdogSec", Error)
            .edit("Type=notify", "Type=exec")
            .expecting(|service| service.notify(false))
            .not_shown(),
        in_service(Restart, "RestrictAddressFamilies", Error).add("RestrictAddressFamilies=AF_INET AF_INET6"),
        in_service(Restart, "RestrictAddressFamilies", Error).add("RestrictAddressFamilies=~AF_UNIX AF_PACKET"),
        in_service(Restart, "RestrictAddressFamilies", Error).add("RestrictAddressFamilies=none").not_shown(),
        in_service(Restart, "RestrictAddressFamilies", Error)
            .add("RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=~AF_UNIX")
            .not_shown(),
        in_service(Restart, "ExecStart", Error)
            .edit("ExecStart=/usr/local/bin/app", "ExecStart=/bin/sh -c '/usr/local/bin/app; true'"),
        in_service(Restart, "ExecStart", Error)
            .edit("ExecStart=/usr/local/bin/app", r#"ExecStart=/bin/sh -c "cd / && /usr/local/bin/app""#),
        in_service(Restart, "ExecStart", Error)
            .edit("ExecStart=/usr/local/bin/app", "ExecStart=/bin/bash -c '/usr/local/bin/app | cat'"),
        in_service(Restart, "NonBlocking", Warning).edit("NonBlocking=yes", ""),
        in_service(Restart, "NonBlocking", Warning).edit("NonBlocking=yes", "NonBlocking=off"),
        in_service(Restart, "StartLimitIntervalSec", Warning).edit("StartLimitIntervalSec=0", ""),
        in_service(Restart, "StartLimitIntervalSec", Warning)
            .edit("StartLimitIntervalSec=0", "StartLimitIntervalSec=1min\nStartLimitBurst=3"),
        in_service(Restart, "StandardInput", Error).add("StandardInput=socket"),
        in_service(Restart, "StandardOutput", Error).add("StandardOutput=socket"),
        in_service(Restart, "RemainAfterExit", Error).add("RemainAfterExit=yes"),
        in_service(Restart, "Restart", Error)
            .edit("Restart=on-failure", "Restart=always")
            .expecting(|service| service.idle_exit(true)),
        in_service(Restart, "LimitNOFILE", Warning).add("LimitNOFILE=512"),
        in_service(Restart, "LimitNOFILE", Warning).expecting(|service| service.connections(5000)),
        in_service(Restart, "KillMode", Error).add("KillMode=none"),
        in_service(Reload, "KillMode", Error).edit("KillMode=control-group", "KillMode=mixed"),
        in_service(Reload, "KillMode", Error).edit("KillMode=control-group", "KillMode=process"),
        in_service(Reload, "KillMode", Error).edit("KillMode=control-group", "KillMode=none"),
        in_service(Restart, "KillSignal", Error).add("KillSignal=SIGQUIT\nRestartKillSignal=SIGTERM"),
        in_service(Restart, "RestartKillSignal", Error).add("RestartKillSignal=SIGUSR2"),
        in_service(Restart, "TimeoutStopSec", Error).edit("TimeoutStopSec=35", "TimeoutStopSec=5"),
        in_service(Restart, "TimeoutStopSec", Error).edit("TimeoutStopSec=35", "TimeoutStopSec=30"),
        in_service(Restart, "TimeoutStopSec", Error).edit("TimeoutStopSec=35", "TimeoutSec=20"),
        in_service(Restart, "TimeoutStopSec", Error)
            .edit("TimeoutStopSec=35", "")
            .expecting(|service| service.drain_timeout(Duration::from_secs(90))),
        in_service(Reload, "TimeoutStartSec", Error).edit("TimeoutStartSec=60", "TimeoutStartSec=10"),
        in_service(Reload, "TimeoutStartSec", Error)
            .edit("TimeoutStartSec=60", "")
            .expecting(|service| service.handoff_timeout(Duration::from_secs(100))),
        in_service(Reload, "ExecReload", Error)
            .edit("ExecReload=/usr/local/bin/handoff_request /run/app-reload/handoff.sock", ""),
        in_service(Reload, "ExecReload", Warning).edit(
            "ExecReload=/usr/local/bin/handoff_request /run/app-reload/handoff.sock",
            "ExecReload=/bin/kill -HUP $MAINPID",
        ),
        in_service(Reload, "ExecReload", Warning).edit("Type=notify", "Type=notify-reload").not_shown(),
        in_service(Reload, "SuccessExitStatus", Warning).edit("SuccessExitStatus=SIGTERM", ""),
        in_service(Reload, "SuccessExitStatus", Warning)
            .edit("SuccessExitStatus=SIGTERM", "SuccessExitStatus=15 143 SIGHUP"),
        in_service(Reload, "SuccessExitStatus", Warning).add("KillSignal=SIGINT"),
        in_service(Reload, "ReloadSignal", Error)
            .edit("Type=notify", "Type=notify-reload")
            .not_shown()
            .edit("ExecReload=/usr/local/bin/handoff_request /run/app-reload/handoff.sock", "ReloadSignal=SIGUSR1"),
        in_service(Reload, "RuntimeDirectory", Warning).edit("RuntimeDirectory=app-reload", ""),
        in_service(Reload, "RuntimeDirectory", Warning).edit("RuntimeDirectory=app-reload", "RuntimeDirectory=app"),
        in_service(Restart, "NotifyAccess", Warning).add("NotifyAccess=all"),
        in_service(Reload, "NotifyAccess", Warning).edit("NotifyAccess=main", "NotifyAccess=all"),
        in_service(Restart, "ExecStart", Warning)
            .edit("ExecStart=/usr/local/bin/app", "ExecStart=/no/such/place/start.sh --production")
            .with_more_to_fix(),
        in_service(Restart, "ExecStart", Warning)
            .edit("ExecStart=/usr/local/bin/app", "ExecStart=/bin/bash -eu /no/such/place/start")
            .with_more_to_fix(),
        in_service(Reload, "WorkingDirectory", Error).edit("Environment=PWD=/srv/app/current", ""),
        in_service(Reload, "WorkingDirectory", Error)
            .edit("Environment=PWD=/srv/app/current", "Environment=A=b \"PWD=/srv/app\""),
        in_service(Reload, "ExecReload", Error)
            .edit(
                "ExecReload=/usr/local/bin/handoff_request /run/app-reload/handoff.sock",
                "RefreshOnReload=credentials\nExecReloadPost=/bin/true",
            )
            .not_shown(),
        in_service(Reload, "ExecReloadPost", Warning)
            .add("ExecReloadPost=/usr/local/bin/handoff_request /run/app-reload/handoff.sock")
            .not_shown(),
        in_service(Restart, "PrivateTmp", Error)
            .expecting(|service| service.fallback("admin", "/tmp/admin.sock").expect("an address")),
        in_service(Restart, "RuntimeDirectory", Error)
            .expecting(|service| service.fallback("admin", "/run/m7.sock").expect("an address")),
        in_service(Restart, "RuntimeDirectory", Error)
            .edit("DynamicUser=yes", "User=www-data")
            .expecting(|service| service.fallback("admin", "/run/m7.sock").expect("an address")),
        in_service(Restart, "RuntimeDirectory", Error)
            .edit("DynamicUser=yes", "ProtectSystem=strict")
            .expecting(|service| service.fallback("admin", "/srv/app/admin.sock").expect("an address")),
        in_socket(Reload, "ListenStream", Error).add("ListenStream=/run/app-reload/http.sock"),
        in_socket(Store, "ListenStream", Error).add("ListenStream=/var/run/app-store/deep/http.sock"),
        in_service(Store, "FileDescriptorStoreMax", Error).edit("FileDescriptorStoreMax=512", ""),
        in_service(Store, "FileDescriptorStoreMax", Error)
            .edit("FileDescriptorStoreMax=512", "FileDescriptorStoreMax=100"),
        in_service(Store, "Restart", Warning).edit("Restart=on-failure", ""),
        in_service(Store, "RuntimeDirectoryPreserve", Error).edit("RuntimeDirectoryPreserve=restart", ""),
        in_service(Restart, "PrivateTmp", Error)
            .edit("DynamicUser=yes", "PrivateTmp=yes")
            .expecting(|service| service.fallback("admin", "/tmp/admin.sock").expect("an address")),
        in_socket(Accept, "Accept", Error).expecting(|service| service.handoff(true)).with_more_to_fix(),
        in_socket(Restart, "Accept", Error).add("Accept=yes\nTriggerLimitIntervalSec=0"),
        in_socket(Accept, "TriggerLimitIntervalSec", Warning).edit("TriggerLimitIntervalSec=0", ""),
        in_second_socket(Named, "Service", Error).edit("Service=named.service", ""),
        in_second_socket(Named, "Service", Error).edit("Service=named.service", "Service=missing.service"),
        in_socket(Restart, "FlushPending", Error).add("FlushPending=yes"),
        in_socket(Restart, "SocketMode", Warning).add("ListenStream=/run/app-restart.sock\nSocketMode=0660"),
        in_second_socket(Named, "SocketMode", Warning).edit("SocketUser=root", ""),
        in_socket(Accept, "DeferTrigger", Error).add("DeferTrigger=patient").not_shown(),
        in_socket(Restart, "DeferTriggerMaxSec", Warning).add("DeferTrigger=yes\nDeferTriggerMaxSec=1min").not_shown(),
        in_socket(Restart, "FileDescriptorName", Error).edit("FileDescriptorName=http", ""),
        in_socket(Restart, "FileDescriptorName", Error).edit("FileDescriptorName=http", "FileDescriptorName=web"),
        in_second_socket(Named, "FileDescriptorName", Error)
            .edit("FileDescriptorName=admin", "FileDescriptorName=adnim"),
        in_service(Restart, "Sockets", Error).expecting(|service| service.name("admin")),
    ]
}

fn in_service(way: Way, directive: &'static str, severity: Severity) -> Fault {
    Fault::new(way, way.shipped()[0], directive, severity)
}

fn in_socket(way: Way, directive: &'static str, severity: Severity) -> Fault {
    Fault::new(way, way.shipped()[1], directive, severity)
}

fn in_second_socket(way: Way, directive: &'static str, severity: Severity) -> Fault {
    Fault::new(way, way.shipped()[2], directive, severity)
}
