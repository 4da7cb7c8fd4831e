//! What the demo plays: one row per flow, with what must come out.

use std::net::SocketAddr;

use crate::lab::device::HelloShape;
use crate::lab::services::{
    BUCKET, FOREIGN, IOT_CREDENTIALS, IOT_DATA, LAYERS, REGISTRY, REGISTRY_API,
};
use crate::lab::topology::{PUBLIC_ROUTER, ZONES, public4, public6};
use crate::reason::Reason;

/// One flow of the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Its name in the table and in JSON.
    pub(super) name: &'static str,
    /// The device, by its place in the lab.
    pub(super) device: usize,
    /// The name it asks for; empty where there is none.
    pub(super) host: &'static str,
    /// Where it sends its packets.
    pub(super) to: To,
    /// The port it dials.
    pub(super) port: u16,
    /// What it does.
    pub(super) act: Act,
    /// What is broken meanwhile.
    pub(super) fault: Fault,
    /// What must come out: allowed, or refused for a reason.
    pub(super) expected: Result<(), Reason>,
}

/// Where a device sends its packets.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// The private address of a service in the first zone, as conditional forwarding tells it.
    Private(u8),
    /// The public address of a service.
    Public(u8),
    /// The public IPv6 address of a service.
    Public6(u8),
    /// An address of nobody's that is burnt into the device.
    Nowhere,
    /// The public side's router, which answers echo requests.
    Router,
}

/// What a device does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// MQTT: connect and publish with QoS 1.
    Mqtt,
    /// The same with ALPN `x-amzn-mqtt-ca`.
    MqttAlpn,
    /// HTTP GET of a path.
    Get(&'static str),
    /// HTTP PUT of so many bytes.
    Upload(u64),
    /// HTTP GET of so many bytes, hash checked.
    Download(u64),
    /// A TLS handshake whose hello is cut.
    Shaped(HelloShape),
    /// A TLS handshake without server name.
    WithoutSni,
    /// A TLS 1.0 hello; the endpoint's own refusal must come back.
    Tls10,
    /// Plain HTTP.
    PlainHttp,
    /// A datagram.
    Udp,
    /// A bare TCP connection.
    Tcp,
    /// An echo request.
    Ping,
}

/// What is broken while a flow is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The name's private hosted zone is gone, so its resolver answer is public.
    ZoneMissing,
    /// Neither resolver answers.
    ResolversDown,
    /// Both tunnel interfaces are down.
    TunnelsDown,
    /// The first zone swallows everything.
    ZoneDown,
}

impl To {
    /// The address and port.
    pub(super) fn address(self, port: u16) -> SocketAddr {
        match self {
            Self::Private(octet) => {
                let [first, _] = ZONES;
                (first.address(octet), port).into()
            }
            Self::Public(octet) => (public4(octet), port).into(),
            Self::Public6(octet) => (public6(octet), port).into(),
            Self::Nowhere => (public4(200), port).into(),
            Self::Router => (PUBLIC_ROUTER, port).into(),
        }
    }
}

impl Case {
    const fn allowed(name: &'static str, device: usize, host: &'static str, to: To) -> Self {
        let act = Act::Get("/");
        Self { name, device, host, to, port: 443, act, fault: Fault::None, expected: Ok(()) }
    }

    const fn denied(
        name: &'static str,
        device: usize,
        host: &'static str,
        to: To,
        reason: Reason,
    ) -> Self {
        let act = Act::Get("/");
        Self { name, device, host, to, port: 443, act, fault: Fault::None, expected: Err(reason) }
    }

    const fn act(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    const fn while_(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }
}

/// Another account's endpoint in the site's region: it resolves publicly.
const OTHER_ACCOUNT: &str = "z9y8x7w6v5u4t3-ats.iot.eu-central-1.amazonaws.com";
const OTHER_BUCKET: &str = "another-bucket.s3.eu-central-1.amazonaws.com";
const GREENGRASS: &str = "greengrass-ats.iot.eu-central-1.amazonaws.com";
const LOGS: &str = "logs.eu-central-1.amazonaws.com";
const ROLE: &str = "/role-aliases/plant/credentials";
const SIZE: u64 = 64 << 20;

const PRESS: usize = 0;
const GATEWAY: usize = 1;
const LEGACY: usize = 2;

use Fault::{ResolversDown, TunnelsDown, ZoneDown, ZoneMissing};
use HelloShape::{OneByteSegments, Records};
use To::{Nowhere, Private, Public, Public6, Router};

/// All flows, in the order in which they are played.
pub(super) const CASES: &[Case] = &[
    Case::allowed("mqtt-8883", PRESS, IOT_DATA, Private(11)).port(8883).act(Act::Mqtt),
    Case::allowed("mqtt-443-alpn", PRESS, IOT_DATA, Private(11)).act(Act::MqttAlpn),
    Case::allowed("iot-https-8443", PRESS, IOT_DATA, Private(11)).port(8443),
    Case::allowed("credentials", GATEWAY, IOT_CREDENTIALS, Private(12)).act(Act::Get(ROLE)),
    Case::allowed("s3-upload-64MiB", GATEWAY, BUCKET, Private(13)).act(Act::Upload(SIZE)),
    Case::allowed("s3-download-64MiB", GATEWAY, BUCKET, Private(13)).act(Act::Download(SIZE)),
    Case::allowed("ecr-api", GATEWAY, REGISTRY_API, Private(14)),
    Case::allowed("ecr-registry", GATEWAY, REGISTRY, Private(14)),
    Case::allowed("ecr-layer", GATEWAY, LAYERS, Private(13)).act(Act::Download(1 << 20)),
    Case::allowed("hard-coded-address", PRESS, IOT_DATA, Nowhere).port(8883).act(Act::Mqtt),
    Case::allowed("resolved-publicly", GATEWAY, IOT_CREDENTIALS, Public(12)).act(Act::Get(ROLE)),
    Case::allowed("ipv6-destination", GATEWAY, BUCKET, Public6(13)).act(Act::Download(1 << 20)),
    Case::allowed("hello-1-byte-segments", PRESS, IOT_DATA, Public(11))
        .act(Act::Shaped(OneByteSegments(600))),
    Case::allowed("hello-many-records", PRESS, IOT_DATA, Public(11)).act(Act::Shaped(Records(20))),
    Case::allowed("hello-tls-1.0", LEGACY, IOT_DATA, Public(11)).act(Act::Tls10),
    Case::denied("other-account", PRESS, OTHER_ACCOUNT, Public(11), Reason::NameOtherAccount),
    Case::denied("foreign-bucket", GATEWAY, OTHER_BUCKET, Public(13), Reason::NameNotAllowed),
    Case::denied("public-name", GATEWAY, FOREIGN, Public(18), Reason::NameNotAllowed),
    Case::denied("public-only-name", GATEWAY, GREENGRASS, Public(16), Reason::NamePublicOnly)
        .port(8443),
    Case::denied("not-this-device", LEGACY, BUCKET, Public(13), Reason::DeviceNotAllowed),
    Case::denied("no-server-name", LEGACY, IOT_DATA, Public(11), Reason::NameMissing)
        .act(Act::WithoutSni),
    Case::denied("plain-http", LEGACY, "", Public(18), Reason::NotTls).act(Act::PlainHttp),
    Case::denied("quic", GATEWAY, "", Public(13), Reason::QuicBlocked).act(Act::Udp),
    Case::denied("tcp-80", LEGACY, "", Public(13), Reason::TcpPortBlocked).port(80).act(Act::Tcp),
    Case::denied("icmp", LEGACY, "", Router, Reason::IcmpBlocked).port(0).act(Act::Ping),
    Case::denied("hosted-zone-missing", GATEWAY, LOGS, Public(17), Reason::AddressPublic)
        .while_(ZoneMissing),
    Case::allowed("resolvers-down", PRESS, IOT_DATA, Private(11))
        .port(8883)
        .act(Act::Mqtt)
        .while_(ResolversDown),
    Case::denied("tunnels-down", PRESS, IOT_DATA, Public(11), Reason::TunnelDown)
        .while_(TunnelsDown),
    Case::allowed("zone-down", PRESS, IOT_DATA, Private(11))
        .port(8883)
        .act(Act::Mqtt)
        .while_(ZoneDown),
    Case::allowed("all-well-again", PRESS, IOT_DATA, Public(11)).port(8883).act(Act::Mqtt),
];
