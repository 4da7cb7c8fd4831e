//! Plays the cases in the lab and reads from the gate's own records what became of them.

#![expect(clippy::indexing_slicing, reason = "a missing key of a JSON value is null, not a panic")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cases::{Act, Case, Fault, To};
use crate::audit::read;
use crate::lab::device::{
    Call, DEADLINE, Failure, HttpReply, echo, exchange, tcp_connect, tls_connect, tls10_hello,
    udp_exchange,
};
use crate::lab::pki::Pki;
use crate::lab::services::{Blob, FOREIGN, MQTT_ALPN, PUBLIC_OCTET};
use crate::lab::topology::{DEVICES, ZONES};
use crate::lab::{Daemon, Lab, LabError};
use crate::reason::{Reason, Stage};

/// What came out of a case.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Allowed, or refused for a reason; `None` when the gate recorded nothing.
    pub(super) verdict: Option<Result<(), Reason>>,
    /// The endpoint's address that the gate used.
    pub(super) address: Option<String>,
    /// The `[endpoint.*]` table.
    pub(super) endpoint: Option<String>,
    /// Device to endpoint.
    pub(super) bytes_up: u64,
    /// Endpoint to device.
    pub(super) bytes_down: u64,
    /// What is wrong with it.
    pub(super) complaint: Option<String>,
}

impl Outcome {
    pub(super) fn ok(&self) -> bool {
        self.complaint.is_none()
    }
}

/// The lab with its gate, while the demo is played.
pub(super) struct Theatre<'a> {
    lab: &'a Lab,
    daemon: &'a Daemon,
    records: PathBuf,
    /// How many records have been read.
    read: usize,
}

impl<'a> Theatre<'a> {
    pub(super) fn new(lab: &'a Lab, daemon: &'a Daemon) -> Self {
        Self { lab, daemon, records: lab.directory().join("audit"), read: 0 }
    }

    /// Waits until the gate has resolved every name that it should have.
    ///
    /// # Errors
    /// When the gate cannot be asked.
    pub(super) fn until_settled(&self) -> Result<(), LabError> {
        self.until(|status| {
            let endpoints = status["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
            endpoints.iter().all(|e| e["required"] == false || e["reason"].is_null())
        })
    }

    /// Plays one case.
    ///
    /// # Errors
    /// When the lab itself does not work; a case that comes out wrong is no error.
    pub(super) fn play(&mut self, case: &Case) -> Result<Outcome, LabError> {
        self.break_it(case)?;
        let packets = self.packets(case)?;
        let played = self.act(case);
        let outcome = match case.expected {
            Err(reason) if reason.stage() == Stage::Packet => self.counted(reason, packets)?,
            _ => self.recorded(case)?,
        };
        self.mend(case)?;
        Ok(judge(case, outcome, played))
    }

    fn break_it(&self, case: &Case) -> Result<(), LabError> {
        match case.fault {
            Fault::None => Ok(()),
            Fault::ZoneMissing => {
                self.lab.zone().remove_private(case.host);
                self.until(|status| endpoint(status, case.host)["reason"] == "address_public")
            }
            Fault::ResolversDown => {
                self.lab.resolvers_down()?;
                self.until(|status| endpoint(status, case.host)["last_good"] == true)
            }
            Fault::TunnelsDown => {
                self.lab.tunnel_down(1)?;
                self.lab.tunnel_down(2)?;
                self.until(|status| tunnels(status).all(|tunnel| tunnel["up"] == false))
            }
            Fault::ZoneDown => {
                let [first, _] = ZONES;
                self.lab.zone_down(first.name)
            }
        }
    }

    fn mend(&self, case: &Case) -> Result<(), LabError> {
        match case.fault {
            Fault::None => Ok(()),
            Fault::ZoneMissing => {
                let addresses = ZONES.map(|zone| zone.address(17));
                self.lab.zone().set_private(case.host, &addresses);
                Ok(())
            }
            Fault::ResolversDown => {
                self.lab.resolvers_up()?;
                self.until(|status| endpoint(status, case.host)["last_good"] == false)
            }
            Fault::TunnelsDown => {
                self.lab.tunnel_up(1)?;
                self.lab.tunnel_up(2)?;
                self.until(|status| tunnels(status).all(|tunnel| tunnel["up"] == true))
            }
            Fault::ZoneDown => {
                let [first, _] = ZONES;
                self.lab.zone_up(first.name)
            }
        }
    }

    /// Waits until the gate has noticed.
    fn until(&self, noticed: impl Fn(&Value) -> bool) -> Result<(), LabError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if noticed(&self.daemon.status_json()?) {
                return Ok(());
            }
            std::thread::sleep(GLANCE);
        }
        // What it did not notice shows in the case's outcome.
        Ok(())
    }

    fn act(&self, case: &Case) -> Result<(), Failure> {
        let (case, pki) = (*case, self.lab.pki());
        self.lab.device(case.device).run(async move || perform(&case, &pki).await)
    }

    fn packets(&self, case: &Case) -> Result<u64, LabError> {
        match case.expected {
            Err(reason) if reason.stage() == Stage::Packet => {
                let status = self.daemon.status_json()?;
                Ok(status["rules"]["packets"][reason.code()].as_u64().unwrap_or_default())
            }
            _ => Ok(0),
        }
    }

    /// The outcome of packets that rules refuse: the rule's counter.
    fn counted(&self, reason: Reason, before: u64) -> Result<Outcome, LabError> {
        let status = self.daemon.status_json()?;
        let after = status["rules"]["packets"][reason.code()].as_u64().unwrap_or_default();
        Ok(Outcome { verdict: (after > before).then_some(Err(reason)), ..Outcome::nothing() })
    }

    /// The outcome of a flow: what the gate recorded of it.
    fn recorded(&mut self, case: &Case) -> Result<Outcome, LabError> {
        let Some(device) = DEVICES.get(case.device) else { return Ok(Outcome::nothing()) };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for record in self.new_records() {
                let mac = record["src_endpoint"]["mac"].as_str().unwrap_or_default();
                let ours = mac.eq_ignore_ascii_case(device.mac);
                if ours && matches!(record["activity_id"].as_u64(), Some(2..=5)) {
                    return Ok(Outcome::of(&record));
                }
            }
            std::thread::sleep(GLANCE);
        }
        Ok(Outcome::nothing())
    }

    /// Records that were not read before.
    fn new_records(&mut self) -> Vec<Value> {
        let Ok(mut lines) = read::lines(&self.records) else { return Vec::new() };
        let mut records = Vec::new();
        let mut seen = 0;
        while let Ok(Some(line)) = lines.next_line() {
            seen += 1;
            if seen > self.read {
                records.extend(serde_json::from_slice::<Value>(line.bytes).ok());
            }
        }
        self.read = seen;
        records
    }
}

impl Outcome {
    fn nothing() -> Self {
        Self {
            verdict: None,
            address: None,
            endpoint: None,
            bytes_up: 0,
            bytes_down: 0,
            complaint: None,
        }
    }

    fn of(record: &Value) -> Self {
        let code = record["status_code"].as_str().unwrap_or_default();
        let refused = matches!(record["activity_id"].as_u64(), Some(4 | 5));
        let verdict = if refused { Reason::from_code(code).map(Err) } else { Some(Ok(())) };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // What a refused device sent ended in the gate.
        let moved = |direction: &str| match refused {
            true => 0,
            false => record["traffic"][direction].as_u64().unwrap_or_default(),
        };
        Self {
            verdict,
            address: text(&record["dst_endpoint"]["proxy_endpoint"]["ip"]),
            endpoint: text(&record["firewall_rule"]["name"]),
            bytes_up: moved("bytes_out"),
            bytes_down: moved("bytes_in"),
            complaint: None,
        }
    }
}

/// Shows, before there is a gate, that devices reach the public side over IPv4 and IPv6 and that the
/// lab sees it: otherwise "nothing leaked" would mean nothing.
///
/// # Errors
/// When a leak would not succeed, or not be seen.
pub(super) fn prove_that_leaks_show(lab: &Lab) -> Result<(), LabError> {
    for to in [To::Public(PUBLIC_OCTET), To::Public6(PUBLIC_OCTET)] {
        let (pki, call) = (lab.pki(), Call::new(to.address(443), FOREIGN));
        let reached = lab.device(0).run(async move || tls_connect(&pki, &call).await.map(drop));
        let seen = lab.leaked_packets()?;
        if reached.is_err() || seen == 0 || lab.public_seen().is_empty() {
            let to = to.address(443);
            return Err(LabError::Proof(format!(
                "a device's leak to {to} would not show: it saw {reached:?}, {seen} packets counted"
            )));
        }
        lab.forget_leaks()?;
    }
    Ok(())
}

/// Whether what happened is what had to happen, on the box and as the device saw it.
fn judge(case: &Case, mut outcome: Outcome, played: Result<(), Failure>) -> Outcome {
    outcome.complaint = match (outcome.verdict, case.expected, played) {
        (None, _, seen) => Some(format!("the gate recorded nothing; the device saw: {seen:?}")),
        (Some(verdict), expected, _) if verdict != expected => {
            Some(format!("expected {}, got {}", verdict_text(expected), verdict_text(verdict)))
        }
        (Some(Ok(())), _, Err(failure)) => Some(format!("allowed, but the device saw: {failure}")),
        (Some(Err(_)), _, Ok(())) => Some("refused, but the device got through".to_owned()),
        (Some(Ok(())), _, Ok(())) if !in_vpc(outcome.address.as_deref()) => {
            Some("the record names no address in the VPC".to_owned())
        }
        _ => None,
    };
    outcome
}

pub(super) fn verdict_text(verdict: Result<(), Reason>) -> String {
    match verdict {
        Ok(()) => "allow".to_owned(),
        Err(reason) => format!("deny {reason}"),
    }
}

fn in_vpc(address: Option<&str>) -> bool {
    address.is_some_and(|address| address.starts_with("10.20."))
}

async fn perform(case: &Case, pki: &Pki) -> Result<(), Failure> {
    let to = case.to.address(case.port);
    let call = Call::new(to, case.host);
    match case.act {
        Act::Mqtt => publish(pki, call.with_certificate()).await,
        Act::MqttAlpn => publish(pki, call.with_certificate().alpn(MQTT_ALPN)).await,
        Act::Get(path) => {
            let session = tls_connect(pki, &call.with_certificate()).await?;
            answered(&session.get(path).await?)
        }
        Act::Upload(size) => {
            let reply = tls_connect(pki, &call).await?.put_blob("/upload", size).await?;
            answered(&reply)?;
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            same("what the bucket stored", text.contains(&Blob::sha256(size)))
        }
        Act::Download(size) => {
            let session = tls_connect(pki, &call).await?;
            let reply = session.get(&format!("/blob?size={size}")).await?;
            answered(&reply)?;
            same("the download", reply.bytes == size && reply.sha256 == Blob::sha256(size))
        }
        Act::Shaped(shape) => tls_connect(pki, &call.shaped(shape)).await?.close().await,
        Act::WithoutSni => tls_connect(pki, &call.without_sni()).await.map(drop),
        Act::Tls10 => match exchange(to, &tls10_hello(case.host), DEADLINE).await {
            // The endpoint's own refusal: the gate passes the hello on, since its name is allowed.
            Err(Failure::TlsAlert(_)) => Ok(()),
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::Unexpected("the endpoint speaks TLS 1.0".to_owned())),
        },
        Act::PlainHttp => {
            let request = b"GET / HTTP/1.1\r\nhost: plant.example\r\n\r\n";
            exchange(to, request, DEADLINE).await.map(drop)
        }
        Act::Udp => prohibited(udp_exchange(to, b"\xc0 a QUIC client", DEADLINE).await.map(drop)),
        Act::Tcp => tcp_connect(to, DEADLINE).await.map(drop),
        Act::Ping => prohibited(echo(to.ip(), DEADLINE).await),
    }
}

async fn publish(pki: &Pki, call: Call) -> Result<(), Failure> {
    let mut session = tls_connect(pki, &call).await?;
    session.mqtt_publish("plant/press-3", b"{\"strokes\":42}").await
}

fn answered(reply: &HttpReply) -> Result<(), Failure> {
    match reply.status {
        200 => Ok(()),
        status => Err(Failure::Unexpected(format!("HTTP status {status}"))),
    }
}

fn same(what: &str, same: bool) -> Result<(), Failure> {
    if same {
        Ok(())
    } else {
        Err(Failure::Unexpected(format!("{what} differs from what was sent")))
    }
}

/// A refusal that lets the device fail at once; silence would not do.
fn prohibited(outcome: Result<(), Failure>) -> Result<(), Failure> {
    match outcome {
        Err(failure) if !failure.is_prohibited() => {
            // Counts as getting through, so that the case is complained about.
            Ok(())
        }
        other => other,
    }
}

fn endpoint<'v>(status: &'v Value, name: &str) -> &'v Value {
    let endpoints = status["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    endpoints.iter().find(|endpoint| endpoint["name"] == name).unwrap_or(&Value::Null)
}

fn tunnels(status: &Value) -> impl Iterator<Item = &Value> {
    status["tunnels"].as_array().into_iter().flatten()
}

const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(20);
