//! What can happen to a flow, as numbers and captions of OCSF 1.8.0 Network Activity.
//!
//! The one table of these constants: a record takes its whole classification from one row, so that
//! activity, action, disposition and severity cannot contradict each other.

/// One row of the table: how a record is classified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) activity: (u8, &'static str),
    pub(super) status: (u8, &'static str),
    pub(super) action: (u8, &'static str),
    pub(super) disposition: (u8, &'static str),
    pub(super) severity: u8,
}

impl Kind {
    /// OCSF: `class_uid` × 100 + `activity_id`.
    pub(super) fn type_uid(&self) -> u32 {
        u32::from(CLASS_UID) * 100 + u32::from(self.activity.0)
    }

    /// Whether somebody should look: something was refused or withdrawn.
    pub(super) fn is_alert(&self) -> bool {
        self.action == DENIED
    }
}

/// Allowed, before the connect.
pub(super) const OPENED: Kind = row((1, "Open"), SUCCESS, ALLOWED, PASSED, INFORMATIONAL);
/// Allowed in learn mode only, before the connect.
pub(super) const LEARNT: Kind = row((1, "Open"), SUCCESS, OBSERVED, (15, "Detected"), LOW);
/// Long open: what it moved since the last record of it.
pub(super) const INTERVAL: Kind = row((6, "Traffic"), SUCCESS, ALLOWED, PASSED, INFORMATIONAL);
/// An orderly end.
pub(super) const CLOSED: Kind = row((2, "Close"), SUCCESS, ALLOWED, PASSED, INFORMATIONAL);
/// Reset on the way.
pub(super) const RESET: Kind = row((3, "Reset"), FAILURE, ALLOWED, PASSED, INFORMATIONAL);
/// The flow's task ended without saying how.
pub(super) const BROKEN: Kind = row((3, "Reset"), FAILURE, ALLOWED, PASSED, MEDIUM);
/// The permission was withdrawn.
pub(super) const WITHDRAWN: Kind = row((3, "Reset"), FAILURE, DENIED, (24, "Access Revoked"), LOW);
/// Allowed, but could not be connected.
pub(super) const FAILED: Kind = row((4, "Fail"), FAILURE, ALLOWED, PASSED, MEDIUM);
/// Refused.
pub(super) const REFUSED: Kind = row((5, "Refuse"), FAILURE, DENIED, (2, "Blocked"), LOW);
/// Refused because it could not be recorded.
pub(super) const UNRECORDED: Kind = row((5, "Refuse"), FAILURE, DENIED, (27, "Error"), HIGH);
/// Open when the box stopped; found at the next start.
pub(super) const CRASHED: Kind = row((2, "Close"), (0, "Unknown"), ALLOWED, PASSED, LOW);

/// A device's DNS question was answered.
pub(super) const DNS_ANSWERED: Kind = row(RESPONSE, SUCCESS, ALLOWED, PASSED, INFORMATIONAL);
/// It was refused.
pub(super) const DNS_REFUSED: Kind = row(RESPONSE, FAILURE, DENIED, (2, "Blocked"), LOW);
/// It was allowed, but there was no usable answer.
pub(super) const DNS_FAILED: Kind = row(RESPONSE, FAILURE, ALLOWED, PASSED, MEDIUM);

/// OCSF's version that records follow.
pub(super) const OCSF_VERSION: &str = "1.8.0";
/// Network Activity.
pub(super) const CLASS_UID: u16 = 4001;
/// The class's caption.
pub(super) const CLASS_NAME: &str = "Network Activity";
/// Network.
pub(super) const CATEGORY_UID: u8 = 4;
/// `metadata.log_name` of flow records.
pub(super) const LOG_NAME: &str = "flow";
/// `metadata.log_name` of devices' DNS questions.
pub(super) const LOG_NAME_DNS: &str = "dns";
/// Their class: DNS Activity.
pub(super) const CLASS_UID_DNS: u16 = 4003;
/// Its caption.
pub(super) const CLASS_NAME_DNS: &str = "DNS Activity";
/// `metadata.log_name` of records of the box's own.
pub(super) const LOG_NAME_SYSTEM: &str = "system";
/// Their class: Application Lifecycle.
pub(super) const CLASS_UID_SYSTEM: u16 = 6002;
/// Their profiles.
pub(super) const PROFILES_SYSTEM: &[&str] = &["host"];
/// `metadata.log_version`: raised when a field changes its meaning.
pub(super) const LOG_VERSION: &str = "1";
/// `unmapped.egress.v`: raised when a field there changes its meaning.
pub(super) const EGRESS_VERSION: u8 = 1;
/// `metadata.product.vendor_name` and `.name`.
pub(super) const PRODUCT: &str = "Sluicegate";
/// `metadata.product.version`.
pub(super) const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Profiles of a flow that was let through.
pub(super) const PROFILES_ALLOWED: &[&str] = &["host", "network_proxy", "security_control"];
/// Profiles of a flow that was not.
pub(super) const PROFILES_REFUSED: &[&str] = &["host", "security_control"];
/// `src_endpoint.type_id`: IOT.
pub(super) const TYPE_IOT: u8 = 7;
/// `device.type_id`: Firewall.
pub(super) const TYPE_FIREWALL: u8 = 9;
/// `connection_info.direction_id`: Outbound.
pub(super) const OUTBOUND: u8 = 2;
/// `connection_info.boundary_id`: Virtual Private Gateway.
pub(super) const BOUNDARY_VPN: u8 = 6;
/// `connection_info.protocol_num` of TCP.
pub(super) const PROTOCOL_TCP: u8 = 6;
/// `tls_extension_list.type_id`: application_layer_protocol_negotiation (RFC 7301).
pub(super) const EXTENSION_ALPN: u8 = 16;
/// `ja4_fingerprint_list.type_id`: JA4, the client's fingerprint.
pub(super) const FINGERPRINT_JA4: u8 = 1;
/// How many destinations a record names at most.
pub(super) const MAX_SAMPLES: usize = 16;
/// `status_code` of an Open.
pub(super) const CODE_OPEN: &str = "open";
/// Before the reason in the `status_code` of an Open in learn mode.
pub(super) const CODE_WOULD_REFUSE: &str = "would_refuse_";
/// `status_code` of what a long flow moved.
pub(super) const CODE_INTERVAL: &str = "interval";
/// `status_code` of an end that was found after a crash.
pub(super) const CODE_CRASH: &str = "unknown_crash";

/// `conn_state` (Zeek): both ends closed.
pub(super) const STATE_CLOSED: &str = "SF";
/// Connected, and ended by neither end.
pub(super) const STATE_CONNECTED: &str = "S1";
/// Tried, and never connected.
pub(super) const STATE_TRIED: &str = "S0";
/// Tried, and refused by the endpoint.
pub(super) const STATE_REJECTED: &str = "REJ";
/// Nobody knows.
pub(super) const STATE_OTHER: &str = "OTH";
/// `unmapped.egress.clock`: the wall clock follows a time server, as far as the system says.
pub(super) const CLOCK_NTP: &str = "ntp";
/// The system does not say.
pub(super) const CLOCK_UNKNOWN: &str = "unknown";

/// `connection_info.protocol_ver_id` of an address.
pub(super) fn ip_version(address: std::net::IpAddr) -> u8 {
    if address.to_canonical().is_ipv4() { 4 } else { 6 }
}

const fn row(
    activity: (u8, &'static str),
    status: (u8, &'static str),
    action: (u8, &'static str),
    disposition: (u8, &'static str),
    severity: u8,
) -> Kind {
    Kind { activity, status, action, disposition, severity }
}

const RESPONSE: (u8, &str) = (2, "Response");
const SUCCESS: (u8, &str) = (1, "Success");
const FAILURE: (u8, &str) = (2, "Failure");
const ALLOWED: (u8, &str) = (1, "Allowed");
const OBSERVED: (u8, &str) = (3, "Observed");
const DENIED: (u8, &str) = (2, "Denied");
const PASSED: (u8, &str) = (1, "Allowed");
const INFORMATIONAL: u8 = 1;
const LOW: u8 = 2;
const MEDIUM: u8 = 3;
const HIGH: u8 = 4;
