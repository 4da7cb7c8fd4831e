//! The network interfaces behind the names: connection, size of packets, certificate.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use hyper::Request;
use hyper_util::rt::TokioIo;

use super::names::Known;
use super::paths::ms;
use super::{Chart, Patient};
use crate::config::Service;
use crate::health::{Call, Certificate, Failure, Offer, Shown, Subject, Trouble, Until, place};
use crate::net::socket::Way;
use crate::policy::ExactName;

/// A time that an endpoint told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Who.
    pub(super) by: String,
    /// The value of its `Date` (RFC 9110 section 6.6.1).
    pub(super) date: String,
}

/// Checks every network interface; the time that one of them told.
pub(super) async fn check(
    patient: &Patient<'_>,
    way: &Way,
    known: &Known,
    chart: &mut Chart<'_>,
) -> Option<Told> {
    let mut told = None;
    for exact in patient.policy.exact_names() {
        let addresses = known.get(&exact.name).map(Vec::as_slice).unwrap_or_default();
        let places = addresses.iter().flat_map(|address| {
            exact.ports.iter().map(|port| SocketAddr::new(IpAddr::V4(*address), *port))
        });
        let visits: Vec<_> = places.map(|to| Visit { patient, way, exact, to }).collect();
        // Where much is silent, one after the other would take minutes.
        let mut calls = stream::iter(&visits)
            .map(|visit| async move { (visit, visit.call(way, visit.offer()).await) })
            .buffered(AT_ONCE);
        let (mut good, mut slowest) = (0, Duration::ZERO);
        while let Some((visit, outcome)) = calls.next().await {
            match outcome {
                Ok(shown) if visit.is_good(&shown, chart) => {
                    good += 1;
                    slowest = slowest.max(shown.connected);
                    if told.is_none() && visit.speaks_http() {
                        told = visit.date(shown).await;
                    }
                }
                Ok(_) => {}
                Err(trouble) => {
                    if is_silence(&trouble)
                        && let Some(mss) = visit.largest().await
                    {
                        // Everything else would fail by it too.
                        visit.tell_narrow(mss, chart);
                        return None;
                    }
                    visit.tell_trouble(&trouble, chart);
                }
            }
        }
        if good > 0 {
            let all = visits.len();
            let sentence = format!(
                "{good} of {all} addresses and ports of {} answer, within {}.",
                exact.name,
                ms(slowest)
            );
            chart.ok("endpoint", &exact.name, sentence);
        }
    }
    told
}

struct Visit<'a> {
    patient: &'a Patient<'a>,
    way: &'a Way,
    exact: &'a ExactName,
    to: SocketAddr,
}

impl Visit<'_> {
    /// Tells what is wrong with what the endpoint showed; whether nothing is.
    fn is_good(&self, shown: &Shown, chart: &mut Chart<'_>) -> bool {
        let place = self.place();
        if self.service() == Some(Service::IotCredentials) && !shown.asked {
            let sentence = format!(
                "{place} does not ask devices for a certificate, as the credentials provider does."
            );
            let remedy = "Correct the record: it must lead to the endpoint of iot.credentials.";
            chart.warning("endpoint", place, sentence, remedy);
            return false;
        }
        self.has_good_certificate(shown, chart)
    }

    /// Connected, and then nothing, until the packets were smaller.
    fn tell_narrow(&self, mss: u16, chart: &mut Chart<'_>) {
        let interface = &self.way.interface;
        let sentence = format!(
            "{} connects, and packets of {} bytes get lost on the way by {interface}; {mss} bytes of \
             segment get through.",
            self.place(),
            self.way.mss.saturating_add(HEADERS)
        );
        let remedy = format!(
            "Set mss = {mss} for {interface} in [tunnel], and look for what drops ICMP \
             \"fragmentation needed\" on the way."
        );
        chart.failed("mtu", interface, sentence, remedy);
    }

    fn tell_trouble(&self, trouble: &Trouble, chart: &mut Chart<'_>) {
        let words = self.subject(&[self.to]).failed(&Failure::from(trouble));
        chart.failed("endpoint", self.place(), words.sentence(), words.remedy);
    }

    /// The largest segment with which the handshake succeeds.
    async fn largest(&self) -> Option<u16> {
        for mss in SEGMENTS.into_iter().filter(|mss| *mss < self.way.mss) {
            let way = Way { mss, ..self.way.clone() };
            if self.call(&way, self.offer()).await.is_ok() {
                return Some(mss);
            }
        }
        None
    }

    fn has_good_certificate(&self, shown: &Shown, chart: &mut Chart<'_>) -> bool {
        let certificate = &shown.certificate;
        let Some(words) = self.subject(&[self.to]).certificate(certificate) else { return true };
        let (place, sentence) = (self.place(), words.sentence());
        if matches!(certificate, Certificate::Bad(_)) {
            chart.failed("certificate", place, sentence, words.remedy);
            return false;
        }
        chart.warning("certificate", place, sentence, words.remedy);
        true
    }

    async fn call(&self, way: &Way, offer: Offer) -> Result<Shown, Trouble> {
        let to = self.to;
        let name = self.exact.name.to_string();
        let (until, patience) = (Until::Finished, PATIENCE);
        let call = Call { way, to, name: &name, offer, until, patience };
        self.patient.examiner.call(call).await
    }

    /// Asks for nothing, to be told the time.
    async fn date(&self, shown: Shown) -> Option<Told> {
        let stream = TokioIo::new(*shown.stream?);
        let asking = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.ok()?;
            let connection = tokio::spawn(connection);
            let request = Request::head("/")
                .header("host", self.exact.name.to_string())
                .header("connection", "close")
                .body(String::new())
                .ok()?;
            let answer = sender.send_request(request).await.ok();
            connection.abort();
            let date = answer?.headers().get("date")?.to_str().ok()?.to_owned();
            Some(Told { by: self.place(), date })
        };
        tokio::time::timeout(PATIENCE, asking).await.ok()?
    }

    fn speaks_http(&self) -> bool {
        let mqtt = self.service() == Some(Service::IotData);
        !mqtt && self.service() != Some(Service::Custom) && self.to.port() == 443
    }

    fn offer(&self) -> Offer {
        Offer::to(self.service())
    }

    fn service(&self) -> Option<Service> {
        self.patient.site.service(&self.exact.endpoint.id)
    }

    fn subject<'s>(&'s self, places: &'s [SocketAddr]) -> Subject<'s> {
        let (exact, service) = (self.exact, self.service());
        Subject { exact, service, places, zones: &self.patient.site.vpc.zones }
    }

    fn place(&self) -> String {
        place(self.to, &self.patient.site.vpc.zones)
    }
}

/// A connection, and then nothing.
fn is_silence(trouble: &Trouble) -> bool {
    let timed_out = std::io::ErrorKind::TimedOut;
    matches!(trouble, Trouble::Handshake { error, .. } if error.kind() == timed_out)
}

/// Calls side by side.
const AT_ONCE: usize = 8;
/// As long as a Greengrass core waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of IPv4 and TCP, in bytes.
const HEADERS: u16 = 40;
/// Tried in this order when large packets seem to get lost: those of AWS's VPN by cipher, of other
/// tunnels, and the smallest that every path carries.
const SEGMENTS: [u16; 9] = [1_406, 1_398, 1_382, 1_360, 1_300, 1_240, 1_160, 960, 536];
