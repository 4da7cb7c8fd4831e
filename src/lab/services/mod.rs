//! The servers: one per service and address, in the VPC and again on the public side.
//!
//! Both sides answer to the same names with the same certificate. Every server writes down whom it
//! met, and every HTTP answer says which address gave it (`x-endpoint`).

mod blob;
mod http;
mod mqtt;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::LabError;
use super::pki::Pki;
use super::topology::{OCTETS, ZONES, public};

pub use blob::Blob;
pub(crate) use blob::hex;
pub(crate) use http::ENDPOINT_HEADER;
pub use http::Stored;
pub(crate) use mqtt::read_packet;
pub use tls::MQTT_ALPN;

/// The site's AWS IoT data endpoint.
pub const IOT_DATA: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
/// The site's AWS IoT credentials provider.
pub const IOT_CREDENTIALS: &str = "c1d2e3f4g5h6i7.credentials.iot.eu-central-1.amazonaws.com";
/// The site's bucket.
pub const BUCKET: &str = "augsburg-artifacts.s3.eu-central-1.amazonaws.com";
/// The site's registry.
pub const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
/// The registry's API.
pub const REGISTRY_API: &str = "api.ecr.eu-central-1.amazonaws.com";
/// The bucket that image layers come from.
pub const LAYERS: &str = "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com";
/// A name of the plant's own behind PrivateLink.
pub const HISTORIAN: &str = "historian.corp.example";
/// A name that is none of the site's, and public.
pub const FOREIGN: &str = "www.example.com";

/// What a service is, and where.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its table in the configuration: `[endpoint.ID]`. The last one stands for several.
    pub id: &'static str,
    /// The last octet of its addresses in both zones and on the public side.
    pub octet: u8,
    /// Its TLS ports.
    pub ports: &'static [u16],
    /// The names that resolve to it.
    pub names: &'static [&'static str],
    /// What it does.
    pub kind: Kind,
}

/// What a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MQTT on 8883, and elsewhere for clients that ask for it by ALPN; else HTTP publishing.
    IotData,
    /// Temporary credentials for a client certificate.
    IotCredentials,
    /// Objects.
    S3,
    /// A registry, in a few answers.
    Ecr,
    /// Says in JSON that it was reached.
    Plain,
}

/// Every service in the VPC.
pub const SERVICES: [Service; 7] = [
    Service {
        id: "iot-data",
        octet: 11,
        ports: &[8883, 8443, 443],
        names: &[IOT_DATA],
        kind: Kind::IotData,
    },
    Service {
        id: "iot-credentials",
        octet: 12,
        ports: &[443],
        names: &[IOT_CREDENTIALS],
        kind: Kind::IotCredentials,
    },
    Service {
        id: "s3",
        octet: 13,
        ports: &[443],
        names: &[
            BUCKET,
            LAYERS,
            "s3.eu-central-1.amazonaws.com",
            "another-bucket.s3.eu-central-1.amazonaws.com",
        ],
        kind: Kind::S3,
    },
    Service {
        id: "ecr",
        octet: 14,
        ports: &[443],
        names: &[REGISTRY, REGISTRY_API, "999988887777.dkr.ecr.eu-central-1.amazonaws.com"],
        kind: Kind::Ecr,
    },
    Service {
        id: "historian",
        octet: 15,
        ports: &[443, 8443],
        names: &[HISTORIAN],
        kind: Kind::Plain,
    },
    Service {
        id: "greengrass",
        octet: 16,
        ports: &[8443, 443],
        names: &[
            "greengrass-ats.iot.eu-central-1.amazonaws.com",
            "greengrass.eu-central-1.amazonaws.com",
        ],
        kind: Kind::Plain,
    },
    Service {
        id: "control",
        octet: 17,
        ports: &[443],
        names: &[
            "logs.eu-central-1.amazonaws.com",
            "secretsmanager.eu-central-1.amazonaws.com",
            "sts.eu-central-1.amazonaws.com",
            "kms.eu-central-1.amazonaws.com",
            "ssm.eu-central-1.amazonaws.com",
            "ssmmessages.eu-central-1.amazonaws.com",
            "ec2messages.eu-central-1.amazonaws.com",
            "monitoring.eu-central-1.amazonaws.com",
            "iot.eu-central-1.amazonaws.com",
            "api.tunneling.iot.eu-central-1.amazonaws.com",
            "data.tunneling.iot.eu-central-1.amazonaws.com",
        ],
        kind: Kind::Plain,
    },
];

/// The last octet of public servers that have nothing private: [`PUBLIC_NAMES`].
pub const PUBLIC_OCTET: u8 = 18;
/// The last octet of addresses that exist, in the zones and publicly, and have no server.
pub const SPARE_OCTET: u8 = 19;

/// Names that only the public knows: foreign ones, of another region, and AWS names without a
/// private endpoint.
pub const PUBLIC_NAMES: [&str; 6] = [
    FOREIGN,
    "update.vendor.example",
    "a1b2c3d4e5f6g7-ats.iot.us-east-1.amazonaws.com",
    "augsburg-artifacts.s3.us-east-1.amazonaws.com",
    "greengrass-ats.iot.us-east-1.amazonaws.com",
    "iot.us-east-1.amazonaws.com",
];

/// Every name that a server answers to.
pub fn names() -> Vec<String> {
    let private = SERVICES.iter().flat_map(|service| service.names);
    private.chain(&PUBLIC_NAMES).map(|name| (*name).to_owned()).collect()
}

/// One connection that reached a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it came from.
    pub peer: SocketAddr,
    /// The server's address that it reached.
    pub endpoint: SocketAddr,
    /// The name it asked for; `None` also before and without a TLS handshake.
    pub name: Option<String>,
    /// The application protocol agreed upon.
    pub alpn: Option<String>,
    /// Whether the TLS handshake was completed, and what the client showed.
    pub handshake: Handshake,
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The TCP connection alone.
    None,
    /// The TLS handshake, without a client certificate.
    Anonymous,
    /// The TLS handshake, with a valid client certificate.
    Certificate,
}

/// What one side's servers have met and hold.
#[derive(Debug, Default)]
pub struct Ledger {
    seen: Mutex<Vec<Seen>>,
    objects: Mutex<BTreeMap<String, Stored>>,
    datagrams: Mutex<Vec<(SocketAddr, SocketAddr)>>,
}

impl Ledger {
    /// Every TCP connection so far, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// Every object that was put, by `host/key`.
    pub fn objects(&self) -> BTreeMap<String, Stored> {
        lock(&self.objects).clone()
    }

    /// Every UDP datagram to port 443 so far: from, to.
    pub fn datagrams(&self) -> Vec<(SocketAddr, SocketAddr)> {
        lock(&self.datagrams).clone()
    }

    /// Forgets connections and datagrams; objects stay.
    pub fn forget(&self) {
        lock(&self.seen).clear();
        lock(&self.datagrams).clear();
    }

    fn arrived(&self, peer: SocketAddr, endpoint: SocketAddr) {
        let handshake = Handshake::None;
        lock(&self.seen).push(Seen { peer, endpoint, name: None, alpn: None, handshake });
    }

    fn shook_hands(&self, seen: &Seen) {
        let mut list = lock(&self.seen);
        let same = |other: &&mut Seen| (other.peer, other.endpoint) == (seen.peer, seen.endpoint);
        if let Some(entry) = list.iter_mut().rev().find(same) {
            entry.clone_from(seen);
        }
    }

    fn store(&self, key: String, object: Stored) {
        lock(&self.objects).insert(key, object);
    }

    fn object(&self, key: &str) -> Option<Stored> {
        lock(&self.objects).get(key).cloned()
    }
}

/// Starts all servers of the VPC, in the calling thread's namespace.
pub(crate) fn start_private(pki: &Pki, ledger: &Arc<Ledger>) -> Result<(), LabError> {
    for service in &SERVICES {
        let at = ZONES.map(|zone| IpAddr::from(zone.address(service.octet)));
        tls::start(pki, ledger, service.kind, (&at, service.ports))?;
    }
    Ok(())
}

/// Starts all servers of the public side, in the calling thread's namespace: the same as in the
/// VPC, those of public names, plain HTTP on port 80, and an echo on UDP port 443.
pub(crate) fn start_public(pki: &Pki, ledger: &Arc<Ledger>) -> Result<(), LabError> {
    for service in &SERVICES {
        tls::start(pki, ledger, service.kind, (&public(service.octet), service.ports))?;
    }
    let everything = [443, 8443, 8883];
    tls::start(pki, ledger, Kind::Plain, (&public(PUBLIC_OCTET), &everything))?;
    for address in OCTETS.filter(|octet| *octet != SPARE_OCTET).flat_map(public) {
        http::start_plain(ledger, SocketAddr::new(address, 80))?;
        tls::start_echo(ledger, SocketAddr::new(address, 443))?;
    }
    Ok(())
}

/// A listening TCP socket in the calling thread's namespace.
pub(crate) fn listen(at: SocketAddr) -> Result<tokio::net::TcpListener, LabError> {
    let socket = if at.is_ipv4() {
        tokio::net::TcpSocket::new_v4()
    } else {
        tokio::net::TcpSocket::new_v6()
    };
    let listening = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        // A reconnect storm must not be lost in the lab's own queue.
        socket.listen(4096)
    });
    listening.map_err(LabError::io(format!("listen on {at}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
