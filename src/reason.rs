//! The one vocabulary of refusals: audit, metrics, logs, status and explanations all use it.
//!
//! A code is an interface: scripts and dashboards match on it, so it is never renamed. Each code has
//! one sentence that says what happened and one remedy that says what to do, for the plant network
//! admin who reads it at the machine.

use std::fmt;

use serde::{Serialize, Serializer};

/// At which step of a flow a refusal was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The bytes the device sent first.
    Hello,
    /// The site's rules.
    Policy,
    /// The private resolution of the name.
    Resolve,
    /// The connection through the tunnel.
    Dial,
    /// The box itself.
    Box,
    /// A packet that never was a flow of the gate.
    Packet,
}

impl Stage {
    /// The word for it in records and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Policy => "policy",
            Self::Resolve => "resolve",
            Self::Dial => "dial",
            Self::Box => "box",
            Self::Packet => "packet",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $stage:ident $code:literal $sentence:literal $remedy:literal;)*) => {
        /// Why a flow or packet was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $sentence] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of a flow's life.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code: stable, for scripts.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What happened, in one plain sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }

            /// The step that refused.
            pub fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)* }
            }

            /// The reason with this code, if there is one.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    HelloTimeout Hello "hello_timeout"
        "The device opened the connection but did not send a complete TLS ClientHello in time."
        "Check that the device speaks TLS on this port and that its network loses no packets.";
    HelloCut Hello "hello_cut"
        "The device closed the connection before its TLS ClientHello was complete."
        "Look at the device's own log: it gave up, was restarted, or only probed the port.";
    HelloTooLarge Hello "hello_too_large"
        "The TLS ClientHello is larger than 64 KiB."
        "No TLS client needs so much; check the device's software.";
    HelloMalformed Hello "hello_malformed"
        "The bytes begin like TLS but are not a well-formed ClientHello."
        "Check the device's TLS library; a capture can be read with `sluicegate hello FILE`.";
    NotTls Hello "not_tls"
        "The device sent something that is not TLS."
        "Configure the device to use TLS (for MQTT port 8883, for HTTPS port 443 or 8443).";
    Sslv2Hello Hello "sslv2_hello"
        "The device sent an SSLv2-format hello, which carries no server name."
        "Switch SSLv2 compatibility off in the device, or update its TLS library.";
    NameMissing Hello "name_missing"
        "The ClientHello carries no server name (SNI)."
        "Switch SNI on in the device's TLS settings; AWS IoT requires it through VPC endpoints.";
    NameMalformed Hello "name_malformed"
        "The server name (SNI) is not a valid host name."
        "Correct the endpoint name in the device's settings.";
    NameAmbiguous Hello "name_ambiguous"
        "The ClientHello carries more than one server name."
        "No proper TLS client does this; check the device's software.";
    NameIsAddress Hello "name_is_address"
        "The server name (SNI) is an IP address."
        "Enter the endpoint's host name in the device's settings instead of an address.";
    EchRefused Hello "ech_refused"
        "The ClientHello is encrypted (ECH) and this site refuses that."
        "Switch Encrypted Client Hello off in the device, or allow it in the configuration.";
    NameNotAllowed Policy "name_not_allowed"
        "The name is not one of this site's private endpoints."
        "If the device needs it, add the name to an [endpoint.*] table; otherwise leave it refused.";
    NamePublicOnly Policy "name_public_only"
        "AWS offers this name on public addresses only; no VPC endpoint serves it."
        "Configure the device to use a name that a VPC endpoint serves.";
    NameWrongRegion Policy "name_wrong_region"
        "The name belongs to another AWS region than this site."
        "Configure the device for the site's region.";
    NameOtherAccount Policy "name_other_account"
        "The name belongs to another AWS account."
        "Configure the device with this account's endpoint name (`aws iot describe-endpoint`).";
    PortNotAllowed Policy "port_not_allowed"
        "The endpoint is allowed, but not on this port."
        "Use a port of the endpoint, or add the port to its [endpoint.*] table.";
    DeviceUnknown Policy "device_unknown"
        "The device has no entry in the configuration, and unknown devices are allowed nothing."
        "Add a [[device]] entry for it, or list endpoints in policy.default.";
    DeviceNotAllowed Policy "device_not_allowed"
        "The name is one of the site's endpoints, but this device may not use it."
        "Add the endpoint to the device's `allow` list if it needs it.";
    ResolveFailed Resolve "resolve_failed"
        "No resolver inbound endpoint could answer for the name."
        "Check the tunnel and the Route 53 Resolver inbound endpoints (`sluicegate status`).";
    ResolveTimeout Resolve "resolve_timeout"
        "The resolver inbound endpoints did not answer in time."
        "Check the tunnel, and that the resolvers' security group allows port 53 from this box.";
    ResolveNxdomain Resolve "resolve_nxdomain"
        "The resolver inbound endpoints say that the name does not exist or has no IPv4 address."
        "Check the private hosted zone: it needs an A record for exactly this name.";
    AddressPublic Resolve "address_public"
        "The resolver answered with a public address, so the private hosted zone is missing or not associated with the inbound endpoints' VPC."
        "Create the private hosted zone for exactly this name and associate it with the VPC of the inbound endpoints.";
    AddressOutsideEndpoint Resolve "address_outside_endpoint"
        "The resolver answered with a private address outside the networks of this endpoint."
        "Compare the answer with the endpoint's network interfaces, then correct the hosted zone or `networks`.";
    TunnelDown Dial "tunnel_down"
        "No tunnel interface is up."
        "Bring the VPN or Direct Connect link up; nothing leaves by any other way.";
    EndpointUnreachable Dial "endpoint_unreachable"
        "No network interface of the endpoint answered in time."
        "Check the tunnel's routes and the endpoint's security group (allow this box's source address and port).";
    EndpointRefused Dial "endpoint_refused"
        "The endpoint refused the connection."
        "Check that the VPC endpoint offers this port.";
    EndpointLimit Dial "endpoint_limit"
        "Too many connections to this endpoint are being set up at once."
        "Devices retry by themselves; if it stays, look for devices that reconnect in a loop.";
    AuditUnavailable Box "audit_unavailable"
        "The flow could not be recorded, so it was not allowed."
        "Check the disk of the audit directory (`sluicegate status`).";
    LimitDeviceFlows Box "limit_device_flows"
        "The device has reached its limit of connections."
        "Look for a reconnect loop in the device, or raise its limit.";
    LimitFlows Box "limit_flows"
        "The box has reached its limit of connections."
        "Look for devices that open too many connections, or raise the limit.";
    LimitDeviceQueries Box "limit_device_queries"
        "The device asks the box's DNS faster than it may."
        "Look for a loop in the device, or raise dns.queries-per-second.";
    ShuttingDown Box "shutting_down"
        "The box is shutting down."
        "Wait until it is back; devices retry by themselves.";
    UdpBlocked Packet "udp_blocked"
        "The device sent UDP to a place outside the plant."
        "Nothing to do, unless the device needs a UDP service inside the plant.";
    QuicBlocked Packet "quic_blocked"
        "The device tried QUIC (UDP port 443), which the gate cannot judge."
        "Nothing to do: the device falls back to TCP.";
    TcpPortBlocked Packet "tcp_port_blocked"
        "The device opened a TCP port that no configured endpoint uses."
        "If an endpoint needs this port, add it to its [endpoint.*] table.";
    IcmpBlocked Packet "icmp_blocked"
        "The device sent ICMP to a place outside the plant."
        "Nothing to do.";
    Ipv6Blocked Packet "ipv6_blocked"
        "The device sent IPv6 that is not TLS to a configured port."
        "Nothing to do, or switch IPv6 off in the device.";
    DnsNameRefused Packet "dns_name_refused"
        "The device asked for a name that is not allowed."
        "If the device needs it, add the name to an [endpoint.*] table.";
    DnsForeignResolver Packet "dns_foreign_resolver"
        "The device asked a DNS server other than this box."
        "Enter this box as the device's DNS server.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_explains_itself() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert!(reason.sentence().ends_with('.'), "{reason}");
            assert!(reason.remedy().ends_with('.'), "{reason}");
        }
        assert_eq!(Reason::ALL.len(), 39);
    }
}
