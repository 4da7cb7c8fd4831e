//! Text to checked values: networks, addresses, names, durations.
//!
//! Pure functions; each [`Fault`] says what is wrong with the text and what would be right.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::{InterfaceName, MacAddr};
use crate::name::{NameError, ServerName, Underscore};

/// Why a text is not the value it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: String,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// Text of the file inside of a message: printable, and not longer than a line.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    // Quotes need no escape here: the text stands between backticks or is shown as the file has it.
    out = out.replace("\\'", "'");
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

pub(super) fn interface(text: &str) -> Result<InterfaceName, Fault> {
    InterfaceName::parse(text).ok_or_else(|| {
        Fault::new(
            format!("`{}` cannot be the name of a network interface", shown(text)),
            "write the name as `ip link` shows it: 1 to 15 characters, no space, no `/`, no `:`",
        )
    })
}

/// A network of either family.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    let Ok(network) = text.parse::<IpNet>() else {
        if let Ok(address) = text.parse::<IpAddr>() {
            let single = IpNet::from(address);
            return Err(Fault::new(
                format!("`{address}` is an address, not a network"),
                format!("add the prefix length; {single} is this one address"),
            ));
        }
        return Err(Fault::new(
            format!("`{}` is not a network", shown(text)),
            "write address/prefix-length, for example 10.10.0.0/16",
        ));
    };
    if network != network.trunc() {
        return Err(Fault::new(
            format!("`{network}` has host bits set"),
            format!("the network is {}; the one address is {}", network.trunc(), single(network)),
        ));
    }
    Ok(network)
}

/// An IPv4 network.
pub(super) fn network4(text: &str) -> Result<Ipv4Net, Fault> {
    match network(text)? {
        IpNet::V4(network) => Ok(network),
        IpNet::V6(network) => Err(Fault::new(
            format!("`{network}` is an IPv6 network"),
            "write the VPC's IPv4 networks; this version reaches endpoints over IPv4 only",
        )),
    }
}

/// An IPv4 network that may be the wall around what is dialled.
pub(super) fn vpc_network(text: &str) -> Result<Ipv4Net, Fault> {
    let network = network4(text)?;
    if network.prefix_len() < WIDEST_VPC {
        return Err(Fault::new(
            format!("`{network}` is too wide: it would let flows out to the internet"),
            format!("write the VPC's own networks, /{WIDEST_VPC} or narrower"),
        ));
    }
    if not_unicast(network.network()) {
        return Err(Fault::new(
            format!("`{network}` cannot be a network of a VPC"),
            "write the VPC's own networks, for example 10.20.0.0/16",
        ));
    }
    Ok(network)
}

/// A device's address or network.
pub(super) fn address_or_network(text: &str) -> Result<IpNet, Fault> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => network(text).map_err(|fault| {
            if text.parse::<IpNet>().is_ok() {
                return fault;
            }
            Fault::new(
                format!("`{}` is neither an address nor a network", shown(text)),
                "write one address (10.10.3.7) or a network (10.10.3.0/24)",
            )
        }),
    }
}

/// An address that a packet can come from.
pub(super) fn source(text: &str) -> Result<Ipv4Addr, Fault> {
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        return Err(Fault::new(
            format!("`{}` is not an IPv4 address", shown(text)),
            "write one address without a prefix length, for example 10.99.0.7",
        ));
    };
    if not_unicast(address) || address.is_unspecified() {
        return Err(Fault::new(
            format!("`{address}` cannot be a source address"),
            "write an address of this box that the VPC routes back to, for example 10.99.0.7",
        ));
    }
    Ok(address)
}

/// The next hop of a tunnel interface.
pub(super) fn gateway(text: &str) -> Result<Ipv4Addr, Fault> {
    let help = "write the address of the next hop behind the interface, for example 169.254.10.1";
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        return Err(Fault::new(format!("`{}` is not an IPv4 address", shown(text)), help));
    };
    // The inside addresses of AWS's tunnels are link-local.
    if not_unicast(address) && !address.is_link_local() {
        return Err(Fault::new(format!("`{address}` cannot be a gateway"), help));
    }
    Ok(address)
}

/// A resolver: an address, with a port where it is not 53.
pub(super) fn resolver(text: &str) -> Result<SocketAddr, Fault> {
    let example = "write an inbound endpoint's IPv4 address, for example 10.20.0.53 or \
                   10.20.0.53:5353";
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(SocketAddr::from((address, DNS_PORT)));
    }
    match text.parse::<SocketAddrV4>() {
        Ok(address) if address.port() == 0 => {
            Err(Fault::new(format!("`{address}` has port 0, which nothing listens on"), example))
        }
        Ok(address) => Ok(SocketAddr::V4(address)),
        Err(_) => {
            let what = format!("`{}` is not an IPv4 address of a resolver", shown(text));
            Err(Fault::new(what, example))
        }
    }
}

/// A DNS server of the plant: an address, with a port where it is not 53.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, Fault> {
    let example = "write the server's address, for example 10.10.0.53 or 10.10.0.53:5353";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::from((address, DNS_PORT)));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => {
            let what = format!("`{}` is not an address of a DNS server", shown(text));
            Err(Fault::new(what, example))
        }
    }
}

/// Where to listen: address and port.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Fault> {
    let example = "write address:port, for example 127.0.0.1:9443";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            let what =
                format!("`{address}` has port 0, which would be another port at every start");
            Err(Fault::new(what, example))
        }
        Ok(address) => Ok(address),
        Err(_) => {
            Err(Fault::new(format!("`{}` is not an address with a port", shown(text)), example))
        }
    }
}

/// A name for records: site, device, zone.
pub(super) fn label(text: &str) -> Result<String, Fault> {
    let fits = (1..=LONGEST_LABEL).contains(&text.len());
    let clean = !text.chars().any(char::is_control) && text.trim() == text;
    if fits && clean {
        return Ok(text.to_owned());
    }
    let what = if text.is_empty() {
        "the name is empty".to_owned()
    } else {
        format!("`{}` cannot be used as a name", shown(text))
    };
    Err(Fault::new(
        what,
        format!(
            "write 1 to {LONGEST_LABEL} bytes, without control characters and without spaces at \
             either end"
        ),
    ))
}

/// A device's name; an address would be read as one in `[[expect]]`.
pub(super) fn device_name(text: &str) -> Result<String, Fault> {
    let name = label(text)?;
    if name.parse::<IpAddr>().is_ok() {
        return Err(Fault::new(
            format!("the device's name `{name}` is an address"),
            "give it a name of its own, for example press-3, and write the address in `address`",
        ));
    }
    Ok(name)
}

/// The name of an `[endpoint.NAME]` table.
pub(super) fn endpoint_id(text: &str) -> Result<String, Fault> {
    let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if (1..=LONGEST_LABEL).contains(&text.len()) && clean {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        format!("an endpoint cannot be called `{}`", shown(text)),
        format!("write 1 to {LONGEST_LABEL} letters, digits, `-` or `_`"),
    ))
}

/// The shape of an AWS region's name; which regions exist changes too often to be listed here.
pub(super) fn region(text: &str) -> Result<String, Fault> {
    let parts: Vec<&str> = text.split('-').collect();
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let digits =
        |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let good = match parts.as_slice() {
        [area, words @ .., number] => {
            (2..=4).contains(&area.len())
                && letters(area)
                && (1..=2).contains(&words.len())
                && words.iter().copied().all(letters)
                && digits(number)
        }
        _ => false,
    };
    if good {
        return Ok(text.to_owned());
    }
    let zone = text.strip_suffix(|c: char| c.is_ascii_lowercase());
    let help = match zone.filter(|zone| region(zone).is_ok()) {
        Some(zone) => format!("this is an availability zone; its region is {zone}"),
        None => {
            "write it as AWS does, for example eu-central-1, us-gov-west-1 or cn-north-1".to_owned()
        }
    };
    Err(Fault::new(format!("`{}` is not the name of a region", shown(text)), help))
}

pub(super) fn account(text: &str) -> Result<String, Fault> {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let help = if digits != text && account(&digits).is_ok() {
        format!("leave the separators out: \"{digits}\"")
    } else {
        "write the account's twelve digits in quotes, for example \"123456789012\"".to_owned()
    };
    Err(Fault::new(format!("`{}` is not an AWS account number", shown(text)), help))
}

/// A bucket's name (Amazon S3 user guide, "General purpose bucket naming rules").
pub(super) fn bucket(text: &str) -> Result<String, Fault> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let good = (3..=63).contains(&text.len())
        && text.bytes().all(known)
        && edge(bytes.first())
        && edge(bytes.last())
        && !text.contains("..")
        && text.parse::<Ipv4Addr>().is_err()
        // S3 would take it as a bucket; whoever writes it means the host.
        && !text.contains("amazonaws.com")
        // The name becomes the first labels of a host name.
        && ServerName::parse(bytes, Underscore::Refuse).is_ok();
    if good {
        return Ok(text.to_owned());
    }
    let help = if text.contains('*') {
        "patterns are not possible; list the buckets, or write any-bucket = true"
    } else if text.contains("amazonaws.com") || text.contains(':') || text.contains('/') {
        "write the bucket's bare name, for example augsburg-artifacts"
    } else {
        "write 3 to 63 lower-case letters, digits, hyphens or dots, with a letter or digit at both \
         ends"
    };
    Err(Fault::new(format!("`{}` is not a bucket's name", shown(text)), help))
}

pub(super) fn host(text: &str) -> Result<ServerName, Fault> {
    let error = match ServerName::parse(text.as_bytes(), Underscore::Refuse) {
        Ok(parsed) => return Ok(parsed.name),
        Err(error) => error,
    };
    let help = match error {
        NameError::BadByte(b'*') => {
            "patterns are not possible here: list every name in `hosts`; for S3 write the buckets \
             in `buckets`, or any-bucket = true"
        }
        NameError::BadByte(b'/') => "write the bare host name, without scheme and path",
        NameError::BadByte(b':') if text.contains("://") => {
            "write the bare host name, without scheme and path"
        }
        NameError::BadByte(b':') => "write the bare host name; ports go to `ports = [443]`",
        NameError::BadByte(0x80..) => {
            "write the name as it goes over the wire, in its ASCII form (xn--…)"
        }
        NameError::IsAddress => "write the name that devices ask for; addresses go to `networks`",
        _ => "write a full host name, for example historian.corp.example",
    };
    let why = match error {
        NameError::BadByte(byte) if byte.is_ascii_graphic() => {
            format!("no host name has the character `{}`", char::from(byte))
        }
        _ => error.to_string(),
    };
    Err(Fault::new(format!("`{}` is not a host name: {why}", shown(text)), help))
}

pub(super) fn mac(text: &str) -> Result<MacAddr, Fault> {
    let mac: MacAddr = text.parse().map_err(|error| {
        let help = "write six pairs of hex digits, for example 00:1b:1b:2c:3d:4e";
        let _: super::MacError = error;
        Fault::new(format!("`{}` is not a MAC address", shown(text)), help)
    })?;
    let [first, ..] = mac.0;
    // IEEE 802: the lowest bit of the first byte marks a group, which never sends.
    if first & 1 == 1 || mac.0 == [0; 6] {
        return Err(Fault::new(
            format!("`{mac}` is not the address of one device"),
            "write the device's own MAC address, as `ip neighbour` shows it",
        ));
    }
    Ok(mac)
}

/// How long, for example `24h`; `0` is no time.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    let fault = || {
        Fault::new(
            format!("`{}` is not a duration", shown(text)),
            "write a number and s, m, h or d, for example \"24h\"; 0 is never",
        )
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match text.strip_prefix(number) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        _ => return Err(fault()),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds));
    match total.filter(|total| *total <= LONGEST_DURATION) {
        Some(total) => Ok(Duration::from_secs(total)),
        None => Err(Fault::new(format!("`{}` is too long", shown(text)), "write at most 365d")),
    }
}

/// How many bytes a directory may hold, for example `20GiB`.
pub(super) fn quota(text: &str) -> Result<u64, Fault> {
    let help = "write a number and MiB, GiB or TiB, for example \"20GiB\"; at least 64MiB";
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: Option<u64> = match text.strip_prefix(number) {
        Some("MiB") => Some(1 << 20),
        Some("GiB") => Some(1 << 30),
        Some("TiB") => Some(1 << 40),
        _ => None,
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let (Some(unit), true) = (unit, digits) else {
        return Err(Fault::new(format!("`{}` is not an amount of bytes", shown(text)), help));
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        None => Err(Fault::new(format!("`{}` is too much", shown(text)), help)),
        Some(bytes) if bytes < LEAST_QUOTA => {
            Err(Fault::new(format!("`{}` is too little for a log", shown(text)), help))
        }
        Some(bytes) => Ok(bytes),
    }
}

/// How often something is done again, for example `15m`.
pub(super) fn every(text: &str) -> Result<Duration, Fault> {
    let every = duration(text)?;
    if (LEAST_INTERVAL..=MOST_INTERVAL).contains(&every) {
        return Ok(every);
    }
    let help = "write a time from 1s to 1d, for example \"15m\"";
    Err(Fault::new(format!("`{}` is too short or too long an interval", shown(text)), help))
}

/// How long records are kept, for example `90d`.
pub(super) fn retain(text: &str) -> Result<Duration, Fault> {
    let help = "write a number of days from 1d to 36500d, for example \"90d\"; leave it out to \
                keep what fits";
    let days = text.strip_suffix('d').filter(|days| days.bytes().all(|b| b.is_ascii_digit()));
    let days = days.and_then(|days| days.parse::<u64>().ok());
    match days.filter(|days| (1..=MOST_DAYS).contains(days)) {
        Some(days) => Ok(Duration::from_secs(days * 86_400)),
        None => Err(Fault::new(format!("`{}` is not a number of days", shown(text)), help)),
    }
}

/// An absolute path.
pub(super) fn path(text: &str) -> Result<PathBuf, Fault> {
    if !text.starts_with('/') {
        return Err(Fault::new(
            format!("`{}` is not an absolute path", shown(text)),
            "begin it with /: the daemon's working directory is not yours",
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::new(
            "the path has a control character",
            "write a path without line breaks, tabs or NUL",
        ));
    }
    Ok(PathBuf::from(text))
}

/// An absolute path that a socket can be bound to.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, Fault> {
    let path = path(text)?;
    if text.len() > LONGEST_SOCKET_PATH {
        return Err(Fault::new(
            format!("the path has {} bytes, too many for a socket", text.len()),
            format!("write at most {LONGEST_SOCKET_PATH} bytes"),
        ));
    }
    Ok(path)
}

/// Whether a network is in the ranges that no one routes on the internet (RFC 1918, RFC 6598).
pub(super) fn is_private(network: Ipv4Net) -> bool {
    [
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
    ]
    .into_iter()
    .any(|(address, prefix)| Ipv4Net::new_assert(address, prefix).contains(&network))
}

fn single(network: IpNet) -> IpAddr {
    network.addr()
}

pub(super) fn not_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0
        || first >= 240
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
}

const DNS_PORT: u16 = 53;
const SHOWN: usize = 80;
const LONGEST_LABEL: usize = 64;
const LONGEST_DURATION: u64 = 365 * 86_400;
const LEAST_QUOTA: u64 = 64 << 20;
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const MOST_INTERVAL: Duration = Duration::from_hours(24);
const MOST_DAYS: u64 = 36_500;
/// `sun_path` has 108 bytes with the closing NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;
/// A wall of less than /8 takes in addresses of others, whatever the VPC is.
const WIDEST_VPC: u8 = 8;
