//! The validated configuration as types.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};

use super::Dns;
use crate::name::ServerName;

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Site {
    /// `[site] name`: the box's name in records.
    pub name: String,
    /// `[site] region`, for example `eu-central-1`.
    pub region: String,
    /// `[site] account`: the twelve-digit AWS account, where given (ECR needs it).
    pub account: Option<String>,
    /// `[devices]`.
    pub devices: Devices,
    /// `[tunnel]`.
    pub tunnel: Tunnel,
    /// `[resolver]`.
    pub resolver: Resolver,
    /// `[vpc]`.
    pub vpc: Vpc,
    /// `[endpoint.*]`, in the order of the file.
    pub endpoints: Vec<EndpointConfig>,
    /// `[policy]`.
    pub policy: PolicyConfig,
    /// `[[device]]`, in the order of the file.
    pub device_entries: Vec<DeviceEntry>,
    /// `[[expect]]`, in the order of the file.
    pub expectations: Vec<Expectation>,
    /// `[intercept]`.
    pub intercept: Intercept,
    /// `[limits]`.
    pub limits: Limits,
    /// `[dns]`.
    pub dns: Dns,
    /// `[audit]`.
    pub audit: AuditConfig,
    /// `[admin]`.
    pub admin: Admin,
    /// `[health]`.
    pub health: Health,
    /// `[canary]`, where there is one.
    pub canary: Option<Canary>,
    /// SHA-256 over the file's bytes, lower-case hex: names this policy in records.
    pub hash: String,
}

impl Site {
    /// What an `[endpoint.*]` table is.
    pub fn service(&self, id: &str) -> Option<Service> {
        self.endpoints.iter().find(|table| &*table.id == id).map(|table| table.service)
    }
}

/// Where plant devices arrive.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The interfaces devices are on; at least one.
    pub interfaces: Vec<InterfaceName>,
    /// The networks devices are in; at least one.
    pub networks: Vec<IpNet>,
}

/// The only ways out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Tunnel interfaces, best first; at least one.
    pub interfaces: Vec<InterfaceName>,
    /// The source address of everything that leaves; the interface's own where absent.
    pub source: Option<Ipv4Addr>,
    /// What each interface has of its own, in the order of `interfaces`.
    pub each: Vec<TunnelInterface>,
    /// `return-after`: how long a tunnel that was lost must have worked again before new flows go
    /// back to it (default 30 s).
    pub return_after: Duration,
}

/// One tunnel interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelInterface {
    /// Its name.
    pub name: InterfaceName,
    /// `gateway`: the next hop behind it; what the kernel's routes say where absent.
    pub gateway: Option<Ipv4Addr>,
    /// The TCP maximum segment size in bytes: `mss`, or `mtu` less 40 of headers (default 1,360).
    pub mss: u16,
}

/// The Route 53 Resolver inbound endpoints.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Their addresses; at least one. Port 53 unless the file says otherwise.
    pub inbound: Vec<SocketAddr>,
    /// `last-good`: how long an answer may be used while no resolver answers (default 24 h).
    pub last_good: Duration,
}

/// The VPC behind the tunnels.
#[derive(Clone, Debug)]
pub struct Vpc {
    /// Nothing outside these networks is ever dialled; at least one.
    pub networks: Vec<Ipv4Net>,
    /// `[vpc.zones]`: availability zone name to its subnets, for records and output.
    pub zones: Vec<Zone>,
}

/// One availability zone's subnets.
#[derive(Clone, Debug)]
pub struct Zone {
    /// For example `eu-central-1a`.
    pub name: Arc<str>,
    /// Its subnets in the VPC.
    pub networks: Vec<Ipv4Net>,
}

/// One `[endpoint.NAME]` table.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// The table's name, for example `iot-data` or `historian`.
    pub id: Arc<str>,
    /// Which catalogue service it is.
    pub service: Service,
    /// `host` / `hosts`: exact names.
    pub hosts: Vec<ServerName>,
    /// `ports`: overrides the catalogue's.
    pub ports: Option<Vec<u16>>,
    /// `networks`: where its ENIs are; `vpc.networks` where absent. Never empty.
    pub networks: Vec<Ipv4Net>,
    /// `buckets` (S3 only), bucket names.
    pub buckets: Vec<String>,
    /// `path-style` (S3 only): also the regional name itself.
    pub path_style: bool,
    /// `any-bucket` (S3 only): every bucket of the region.
    pub any_bucket: bool,
    /// `accounts` (ECR only): registries; the site's own account where absent.
    pub accounts: Vec<String>,
    /// `connects-per-second`: how fast connections may be opened; as fast as they come where absent.
    pub connects_per_second: Option<u32>,
}

/// The services the catalogue knows, named as their `[endpoint.*]` tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// `iot-data`
    IotData,
    /// `iot-credentials`
    IotCredentials,
    /// `iot-control`
    IotControl,
    /// `iot-tunneling`
    IotTunneling,
    /// `s3`
    S3,
    /// `ecr`
    Ecr,
    /// `greengrass`
    Greengrass,
    /// `logs`
    Logs,
    /// `secretsmanager`
    SecretsManager,
    /// `sts`
    Sts,
    /// `kms`
    Kms,
    /// `ssm`
    Ssm,
    /// `ssmmessages`
    SsmMessages,
    /// `ec2messages`
    Ec2Messages,
    /// `monitoring`
    Monitoring,
    /// Any other table: its names are all in the file.
    Custom,
}

impl Service {
    /// Every service, [`Service::Custom`] last.
    pub const ALL: [Self; 16] = [
        Self::IotData,
        Self::IotCredentials,
        Self::IotControl,
        Self::IotTunneling,
        Self::S3,
        Self::Ecr,
        Self::Greengrass,
        Self::Logs,
        Self::SecretsManager,
        Self::Sts,
        Self::Kms,
        Self::Ssm,
        Self::SsmMessages,
        Self::Ec2Messages,
        Self::Monitoring,
        Self::Custom,
    ];

    /// The name of its `[endpoint.*]` table; `custom` for [`Service::Custom`], whose tables have
    /// names of their own.
    pub fn key(self) -> &'static str {
        match self {
            Self::IotData => "iot-data",
            Self::IotCredentials => "iot-credentials",
            Self::IotControl => "iot-control",
            Self::IotTunneling => "iot-tunneling",
            Self::S3 => "s3",
            Self::Ecr => "ecr",
            Self::Greengrass => "greengrass",
            Self::Logs => "logs",
            Self::SecretsManager => "secretsmanager",
            Self::Sts => "sts",
            Self::Kms => "kms",
            Self::Ssm => "ssm",
            Self::SsmMessages => "ssmmessages",
            Self::Ec2Messages => "ec2messages",
            Self::Monitoring => "monitoring",
            Self::Custom => "custom",
        }
    }

    /// The service whose table is called `key`: [`Service::Custom`] where the catalogue knows none.
    pub fn from_key(key: &str) -> Self {
        Self::ALL.into_iter().find(|service| service.key() == key).unwrap_or(Self::Custom)
    }
}

/// `[policy]`.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// Enforce or learn.
    pub mode: PolicyMode,
    /// Endpoint ids for devices without an entry; empty refuses them. Where the file does not say:
    /// all endpoints.
    pub default: Vec<Arc<str>>,
}

/// Whether refusals are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyMode {
    /// Refuse what is not allowed.
    Enforce,
    /// Until then (UTC), let flows that policy would refuse reach private addresses, and record them.
    Learn {
        /// End of learning; afterwards the policy is enforced.
        until: time::OffsetDateTime,
    },
}

/// One `[[device]]` entry.
#[derive(Clone, Debug)]
pub struct DeviceEntry {
    /// Its name in records; unique.
    pub name: Arc<str>,
    /// Its hardware address, where given.
    pub mac: Option<MacAddr>,
    /// Its address or network, where given. At least one of `mac` and `address` is.
    pub address: Option<IpNet>,
    /// Endpoint ids it may use.
    pub allow: Vec<Arc<str>>,
    /// `without-sni`: its names may be inferred from the addresses that stand for them.
    pub without_sni: bool,
}

/// One `[[expect]]` entry: a test of the policy.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// A device's name, or an address of an unnamed one.
    pub device: String,
    /// The server name it would ask for, as written (may be a name that is no canonical name).
    pub name: String,
    /// Port (default 443).
    pub port: u16,
    /// What must come out.
    pub verdict: ExpectedVerdict,
    /// Line in the file, from 1.
    pub line: usize,
}

/// What an expectation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedVerdict {
    /// The flow is allowed.
    Allow,
    /// The flow is refused.
    Deny,
}

/// `[intercept]`.
#[derive(Clone, Debug)]
pub struct Intercept {
    /// The loopback port of the transparent listeners (default 15443).
    pub port: u16,
    /// `data-threads`: how many; one per core where absent.
    pub data_threads: Option<usize>,
    /// `relay` (default [`Engine::Adaptive`]).
    pub relay: Engine,
}

/// How streams are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Engine {
    /// Small messages are copied, streams are spliced.
    #[default]
    Adaptive,
    /// Everything is copied.
    Copy,
    /// Everything is spliced.
    Splice,
}

/// `[limits]`: what one device, and all together, may ask of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `flows`: live flows of all devices; what the descriptors allow where absent.
    pub flows: Option<u32>,
    /// `device-flows`: live flows of one device.
    pub device_flows: u32,
    /// `new-flows`: new flows per second of all devices.
    pub new_flows: u32,
    /// `device-new-flows`: new flows per second of one device; four seconds' worth may come at once.
    pub device_new_flows: u32,
    /// `hellos`: flows of all devices that have not sent their hello yet.
    pub hellos: u32,
    /// `device-hellos`: the same of one device.
    pub device_hellos: u32,
    /// `endpoint-dials`: connections to one endpoint that may be set up at once.
    pub endpoint_dials: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: None,
            device_flows: 512,
            new_flows: 10_000,
            device_new_flows: 50,
            hellos: 4_096,
            device_hellos: 64,
            endpoint_dials: 512,
        }
    }
}

/// `[audit]`.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Where records are kept.
    pub directory: PathBuf,
    /// Where private signing keys are kept.
    pub keys: PathBuf,
    /// How much is kept.
    pub retention: Retention,
    /// `report-every`: how often a flow that lives long says what it moved (default 15 minutes).
    pub report_every: Duration,
}

/// How much of the audit log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What happens when the disk or the quota is full.
    pub on_full: OnFull,
    /// `quota`: how much the log's directory may hold, in bytes (default 8 GiB).
    pub quota: u64,
    /// `retain`: older records are deleted; none for their age where absent.
    pub retain: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { on_full: OnFull::Refuse, quota: 8 << 30, retain: None }
    }
}

/// `audit.on-full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Refuse new flows.
    Refuse,
    /// Delete the oldest records.
    Overwrite,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where metrics, health and status page are served.
    pub listen: SocketAddr,
    /// `socket`: the control socket (default `/run/sluicegate/control.sock`).
    pub socket: PathBuf,
    /// `certificate`: a PEM file with the certificate chain to show; one of the gate's own where absent
    /// and TLS is needed.
    pub certificate: Option<PathBuf>,
    /// `key`: its key; there if `certificate` is.
    pub key: Option<PathBuf>,
    /// `token-file`: what whoever asks must show.
    pub token_file: Option<PathBuf>,
    /// `clients`: a PEM file with the authorities of client certificates that open it, too.
    pub clients: Option<PathBuf>,
}

/// `[health]`.
#[derive(Clone, Debug)]
pub struct Health {
    /// `every`: how often each network interface of an endpoint is examined (default a minute).
    pub every: Duration,
    /// `roots`: a PEM file with the roots that endpoints' certificates must lead to; their chains are
    /// not checked where absent.
    pub roots: Option<PathBuf>,
}

/// `[canary]`: what is tried from the devices' side, and must never work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// `targets`: addresses on the public side that answer whoever reaches them; at least one.
    pub targets: Vec<IpAddr>,
    /// `name`: a name that resolves publicly and that no device may use (default `example.com`).
    pub name: ServerName,
    /// `on-leak`: what happens when something gets out.
    pub on_leak: OnLeak,
}

/// `canary.on-leak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnLeak {
    /// It is recorded and shown.
    #[default]
    Alarm,
    /// The gate closes too, until it is restarted.
    Close,
}

impl Default for Health {
    fn default() -> Self {
        Self { every: Duration::from_mins(1), roots: None }
    }
}

/// A network interface's name: 1 to 15 bytes, no `/`, no white space (`dev_valid_name` in Linux).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(Arc<str>);

impl InterfaceName {
    /// Reads an interface name; `None` when the kernel would not take it.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
        let clean = !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '"');
        (fits && clean && text.is_ascii()).then(|| Self(Arc::from(text)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for InterfaceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// An IEEE 802 MAC-48 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl std::str::FromStr for MacAddr {
    type Err = MacError;

    /// Reads `00:1b:1b:2c:3d:4e`, also with hyphens.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError)?;
        }
        if parts.next().is_some() { Err(MacError) } else { Ok(Self(bytes)) }
    }
}

/// Text that is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address (six pairs of hex digits, for example 00:1b:1b:2c:3d:4e)")]
pub struct MacError;

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
