//! Shaking hands with an endpoint as a device would, and judging its certificate.
//!
//! The gate itself never ends TLS for a device. Here it is the client, to find out before a device
//! does what is wrong behind an address.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, version,
};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Service;
use crate::net::socket::{self, Way};

/// How to shake hands, and whom to trust.
#[derive(Debug)]
pub struct Examiner {
    provider: Arc<CryptoProvider>,
    /// `None` without `health.roots`: a chain is then only checked in itself.
    trusted: Option<Arc<WebPkiServerVerifier>>,
}

/// Why the trusted roots cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the trusted roots in {file} cannot be used: {error}; give a PEM file with certificates")]
pub struct RootsError {
    file: PathBuf,
    error: String,
}

/// The versions of TLS to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// 1.2 and 1.3.
    Both,
    /// 1.2 alone, which is all that S3 interface endpoints speak.
    Tls12,
}

impl Offer {
    /// What clients of a service should offer.
    pub fn to(service: Option<Service>) -> Self {
        if service == Some(Service::S3) { Self::Tls12 } else { Self::Both }
    }
}

/// When to hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the certificate: the endpoint never counts a client that failed to log on.
    Certificate,
    /// After the handshake.
    Finished,
}

/// What to do with one address.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// How to leave.
    pub way: &'a Way,
    /// The endpoint's network interface.
    pub to: SocketAddr,
    /// The name to ask for.
    pub name: &'a str,
    /// The versions to offer.
    pub offer: Offer,
    /// When to hang up.
    pub until: Until,
    /// How long the connection, and then the handshake, may take.
    pub patience: Duration,
}

/// What the endpoint showed.
#[derive(Debug)]
pub struct Shown {
    /// How long TCP took.
    pub connected: Duration,
    /// How long it was until the certificate.
    pub took: Duration,
    /// What is to be said of the certificate.
    pub certificate: Certificate,
    /// It asked for the client's certificate, as far as the handshake went.
    pub asked: bool,
    /// The connection, when the handshake was finished.
    pub stream: Option<Box<TlsStream<TcpStream>>>,
}

/// What is to be said of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum Certificate {
    /// It is for this name, and its chain leads to a trusted root.
    Good,
    /// It is for this name and valid; nobody said which roots to trust.
    Unproven,
    /// As [`Certificate::Good`] or [`Certificate::Unproven`], but not for long.
    Expiring {
        /// In fewer than so many days.
        days: u64,
    },
    /// Something is wrong with it.
    Bad(Fault),
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It is for other names.
    OtherName,
    /// Its chain leads to no trusted root.
    UnknownIssuer,
    /// Anything else.
    Unreadable,
}

/// How far it came.
#[derive(Debug)]
pub enum Trouble {
    /// No connection.
    Connect(io::Error),
    /// A connection, and then no certificate.
    Handshake {
        /// What came instead.
        error: io::Error,
        /// How long TCP took.
        connected: Duration,
    },
}

impl Examiner {
    /// Reads the trusted roots, a PEM file (`health.roots`), where given.
    ///
    /// # Errors
    /// [`RootsError`].
    pub fn new(roots: Option<&Path>) -> Result<Self, RootsError> {
        let mut examiner = Self::without_roots();
        if let Some(file) = roots {
            let trusted = read_roots(file).and_then(|roots| verifier(roots, &examiner.provider));
            let unusable = |error| RootsError { file: file.to_owned(), error };
            examiner.trusted = Some(trusted.map_err(unusable)?);
        }
        Ok(examiner)
    }

    /// Trusts nobody, and checks chains in themselves.
    pub fn without_roots() -> Self {
        Self { provider: Arc::new(aws_lc_rs::default_provider()), trusted: None }
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn call(&self, call: Call<'_>) -> Result<Shown, Trouble> {
        let began = Instant::now();
        let connecting = async { socket::tunnel_tcp(call.way)?.connect(call.to).await };
        let stream = within(call.patience, connecting).await.map_err(Trouble::Connect)?;
        socket::reset_on_close(&stream);
        let connected = began.elapsed();
        let failed = |error| Trouble::Handshake { error, connected };
        let witness = Arc::new(Witness::new(Arc::clone(&self.provider), call.until));
        let config = self.config(&witness, call.offer).map_err(|error| failed(other(error)))?;
        let name = ServerName::try_from(call.name.to_owned())
            .map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let connector = TlsConnector::from(Arc::new(config));
        let shaken = within(call.patience, connector.connect(name.clone(), stream)).await;
        let seen = witness.seen();
        let Some((chain, at)) = seen.chain else {
            let error = shaken.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into());
            return Err(failed(error));
        };
        Ok(Shown {
            connected,
            took: at.saturating_duration_since(began),
            certificate: self.judge(&chain, &name, UnixTime::now()),
            asked: seen.asked,
            stream: shaken.ok().map(Box::new),
        })
    }

    fn config(&self, witness: &Arc<Witness>, offer: Offer) -> Result<ClientConfig, Error> {
        let both: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];
        let versions = match offer {
            Offer::Both => both,
            Offer::Tls12 => &[&version::TLS12],
        };
        Ok(ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(witness) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(Arc::clone(witness) as Arc<dyn ResolvesClientCert>))
    }

    fn judge(
        &self,
        chain: &[CertificateDer<'static>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Certificate {
        let Some((leaf, others)) = chain.split_first() else {
            return Certificate::Bad(Fault::Unreadable);
        };
        let of_chain = match (&self.trusted, others.last()) {
            (Some(_), _) => None,
            // The chain's own end stands in for a root: names and dates are checked all the same.
            (None, Some(end)) => {
                let mut roots = RootCertStore::empty();
                roots.add(end.clone()).ok().and_then(|()| verifier(roots, &self.provider).ok())
            }
            (None, None) => None,
        };
        let Some(verifier) = self.trusted.as_ref().or(of_chain.as_ref()) else {
            return match ParsedCertificate::try_from(leaf) {
                Ok(parsed) => match verify_server_name(&parsed, name) {
                    Ok(()) => Certificate::Unproven,
                    Err(_) => Certificate::Bad(Fault::OtherName),
                },
                Err(_) => Certificate::Bad(Fault::Unreadable),
            };
        };
        let valid_at = |days: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + days * DAY));
            verifier.verify_server_cert(leaf, others, name, &[], at)
        };
        if let Err(error) = valid_at(0) {
            return Certificate::Bad(Fault::of(&error));
        }
        match SOON.iter().find(|days| valid_at(**days).is_err()) {
            Some(days) => Certificate::Expiring { days: *days },
            None if self.trusted.is_some() => Certificate::Good,
            None => Certificate::Unproven,
        }
    }
}

impl Fault {
    fn of(error: &Error) -> Self {
        let Error::InvalidCertificate(error) = error else { return Self::Unreadable };
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            _ => Self::Unreadable,
        }
    }
}

/// Keeps what the endpoint shows, and lets it pass: it is judged afterwards.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    until: Until,
    seen: Mutex<Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    chain: Option<(Vec<CertificateDer<'static>>, Instant)>,
    asked: bool,
}

impl Witness {
    fn new(provider: Arc<CryptoProvider>, until: Until) -> Self {
        Self { provider, until, seen: Mutex::default() }
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(others);
        let chain = chain.map(|certificate| certificate.clone().into_owned()).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.chain = Some((chain, Instant::now()));
        match self.until {
            Until::Finished => Ok(ServerCertVerified::assertion()),
            Until::Certificate => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).asked = true;
        None
    }

    // Only then is it asked at all.
    fn has_certs(&self) -> bool {
        true
    }
}

/// The certificates of a PEM file, as those that chains may lead to.
pub(crate) fn read_roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(roots) }
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(patience, work).await.map_err(late)?
}

fn other(error: Error) -> io::Error {
    io::Error::other(error)
}

const DAY: u64 = 24 * 60 * 60;
/// Days before its end at which a certificate is worth a word. AWS renews its own 60 days ahead.
const SOON: [u64; 2] = [7, 21];
