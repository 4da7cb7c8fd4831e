//! `[intercept]`, `[limits]`, `[audit]`, `[admin]`, `[health]`: how the box itself runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::diagnostics::{Problem, Report, Span};
use crate::config::reader::{At, Table};
use crate::config::values;
use crate::config::{Admin, AuditConfig, Engine, Health, Intercept, Limits, OnFull, Retention};

/// The tables, each with its defaults.
pub(in crate::config) struct Draft {
    pub(super) port: u16,
    data_threads: Option<usize>,
    relay: Engine,
    limits: Limits,
    directory: PathBuf,
    keys: Option<PathBuf>,
    retention: Retention,
    report_every: Duration,
    admin: Admin,
    health: Health,
}

/// What [`Draft::finish`] gives.
pub(super) struct Service {
    pub(super) intercept: Intercept,
    pub(super) limits: Limits,
    pub(super) audit: AuditConfig,
    pub(super) admin: Admin,
    pub(super) health: Health,
}

impl Draft {
    pub(super) fn read(root: &mut Table<'_>, report: &Report) -> Self {
        let mut draft = Self {
            port: DEFAULT_PORT,
            data_threads: None,
            relay: Engine::default(),
            limits: Limits::default(),
            directory: PathBuf::from(DEFAULT_DIRECTORY),
            keys: None,
            retention: Retention::default(),
            report_every: REPORT_EVERY,
            admin: Admin {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_ADMIN_PORT)),
                socket: PathBuf::from(DEFAULT_SOCKET),
                certificate: None,
                key: None,
                token_file: None,
                clients: None,
            },
            health: Health::default(),
        };
        draft.read_intercept(root);
        draft.read_limits(root);
        draft.read_audit(root);
        draft.read_admin(root, report);
        draft.read_health(root);
        draft
    }

    pub(super) fn finish(self) -> Option<Service> {
        let keys = self.keys.unwrap_or_else(|| self.directory.with_file_name(DEFAULT_KEYS));
        Some(Service {
            intercept: Intercept {
                port: self.port,
                data_threads: self.data_threads,
                relay: self.relay,
            },
            limits: self.limits,
            audit: AuditConfig {
                directory: self.directory,
                keys,
                retention: self.retention,
                report_every: self.report_every,
            },
            admin: self.admin,
            health: self.health,
        })
    }

    fn read_intercept(&mut self, root: &mut Table<'_>) {
        let Some(mut table) = root.optional_table("intercept") else { return };
        let port = table.optional("port").and_then(|value| value.integer(1, u16::MAX));
        self.port = port.map_or(DEFAULT_PORT, |port| port.value);
        let threads =
            table.optional("data-threads").and_then(|value| value.integer(1, MOST_THREADS));
        self.data_threads = threads.map(|threads| usize::from(threads.value));
        let engines =
            [("adaptive", Engine::Adaptive), ("copy", Engine::Copy), ("splice", Engine::Splice)];
        let relay = table.optional("relay").and_then(|value| value.choice(&engines));
        self.relay = relay.map_or(Engine::default(), |relay| relay.value);
        table.finish();
    }

    fn read_limits(&mut self, root: &mut Table<'_>) {
        let Some(mut table) = root.optional_table("limits") else { return };
        let flows = table.optional("flows").and_then(|value| value.count(1, MOST_FLOWS));
        self.limits.flows = flows.map(|flows| flows.value);
        for (key, limit) in [
            ("device-flows", &mut self.limits.device_flows),
            ("new-flows", &mut self.limits.new_flows),
            ("device-new-flows", &mut self.limits.device_new_flows),
            ("hellos", &mut self.limits.hellos),
            ("device-hellos", &mut self.limits.device_hellos),
            ("endpoint-dials", &mut self.limits.endpoint_dials),
        ] {
            if let Some(value) = table.optional(key).and_then(|value| value.count(1, MOST_FLOWS)) {
                *limit = value.value;
            }
        }
        table.finish();
    }

    fn read_audit(&mut self, root: &mut Table<'_>) {
        let Some(mut table) = root.optional_table("audit") else { return };
        let directory = table.optional("directory").and_then(|value| value.parse(values::path));
        if let Some(directory) = directory {
            self.directory = directory.value;
        }
        let keys = table.optional("keys").and_then(|value| value.parse(values::path));
        self.keys = keys.map(|keys| keys.value);
        let choices = [("refuse", OnFull::Refuse), ("overwrite", OnFull::Overwrite)];
        let retention = &mut self.retention;
        if let Some(on_full) = table.optional("on-full").and_then(|value| value.choice(&choices)) {
            retention.on_full = on_full.value;
        }
        if let Some(quota) = table.optional("quota").and_then(|value| value.parse(values::quota)) {
            retention.quota = quota.value;
        }
        let retain = table.optional("retain").and_then(|value| value.parse(values::retain));
        retention.retain = retain.map(|retain| retain.value);
        let every = table.optional("report-every");
        if let Some(every) = every.and_then(|value| value.parse(values::every)) {
            self.report_every = every.value;
        }
        table.finish();
    }

    fn read_health(&mut self, root: &mut Table<'_>) {
        let Some(mut table) = root.optional_table("health") else { return };
        let roots = table.optional("roots").and_then(|value| value.parse(values::path));
        self.health.roots = roots.map(|roots| roots.value);
        let every = table.optional("every");
        if let Some(every) = every.and_then(|value| value.parse(values::every)) {
            self.health.every = every.value;
        }
        table.finish();
    }

    fn read_admin(&mut self, root: &mut Table<'_>, report: &Report) {
        let Some(mut table) = root.optional_table("admin") else { return };
        let listen = table.optional("listen").and_then(|value| value.parse(values::listen));
        let socket = table.optional("socket").and_then(|value| value.parse(values::socket_path));
        if let Some(socket) = socket {
            self.admin.socket = socket.value;
        }
        let [certificate, key, token_file, clients] =
            ["certificate", "key", "token-file", "clients"].map(|key| Asked::read(&mut table, key));
        for (one, other, missing) in
            [(&certificate, &key, "key"), (&key, &certificate, "certificate")]
        {
            if let (Some(at), false) = (&one.at, other.is_there) {
                let what = format!("there is no `{missing}` for it");
                let help = format!(
                    "add `{missing} = \"/etc/sluicegate/admin-{missing}.pem\"`, or remove this"
                );
                report.error(Problem::at(at.clone(), what).help(help).needs_whole_file());
            }
        }
        if let Some(listen) = listen {
            self.check_listen(&listen, token_file.is_there || clients.is_there, report);
            self.admin.listen = listen.value;
        }
        self.admin.certificate = certificate.path;
        self.admin.key = key.path;
        self.admin.token_file = token_file.path;
        self.admin.clients = clients.path;
        table.finish();
    }

    fn check_listen(&self, listen: &At<SocketAddr>, has_door: bool, report: &Report) {
        let address = listen.value.ip();
        if listen.value.port() == self.port {
            let what = format!("port {} belongs to the interception", self.port);
            let help = "choose another port here, or another `port` in [intercept]";
            report.error(Problem::at(listen.span.clone(), what).help(help));
        }
        if !address.is_loopback() && !has_door {
            let what = format!("whoever reaches {} could see what devices do", listen.value);
            let help = "add `token-file`, with what `openssl rand -hex 32` prints in the file, or \
                        `clients`; or listen on 127.0.0.1";
            report.error(Problem::at(listen.span.clone(), what).help(help).needs_whole_file());
        }
        if address.is_unspecified() {
            let what = "the status page listens on every interface, also where devices are";
            let help = "write the address of a management interface, or 127.0.0.1:9443";
            report.warning(Problem::at(listen.span.clone(), what).help(help));
        }
    }
}

/// A path that may be absent.
struct Asked {
    path: Option<PathBuf>,
    /// Where it stands, if it can be read.
    at: Option<Span>,
    /// The key is there, whatever it says.
    is_there: bool,
}

impl Asked {
    fn read(table: &mut Table<'_>, key: &'static str) -> Self {
        let value = table.optional(key);
        let is_there = value.is_some();
        match value.and_then(|value| value.parse(values::path)) {
            Some(At { value, span }) => Self { path: Some(value), at: Some(span), is_there },
            None => Self { path: None, at: None, is_there },
        }
    }
}

const DEFAULT_PORT: u16 = 15_443;
const DEFAULT_ADMIN_PORT: u16 = 9_443;
/// Beside `directory`.
const REPORT_EVERY: Duration = Duration::from_mins(15);
const DEFAULT_KEYS: &str = "audit-keys";
const DEFAULT_DIRECTORY: &str = "/var/lib/sluicegate/audit";
const DEFAULT_SOCKET: &str = "/run/sluicegate/control.sock";
/// Ten times what the biggest site has; catches a slip of the finger.
const MOST_FLOWS: u32 = 1_000_000;
/// More threads than any edge box has cores; catches a port number in the wrong place.
const MOST_THREADS: u16 = 256;
