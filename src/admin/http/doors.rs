//! Who may come in: TLS, the token, client certificates.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use super::own;
use super::token::{Token, read_secret};
use crate::config::{Admin, Site};
use crate::health;

/// What is wrong with a file of `[admin]`.
#[derive(Debug, thiserror::Error)]
#[error("[admin] {key} {file}: {what}")]
pub struct DoorsError {
    key: &'static str,
    file: PathBuf,
    what: String,
}

/// Who may come in, and how.
#[derive(Debug)]
pub(super) struct Doors {
    tls: Option<Tls>,
    token: Option<Token>,
    /// Without a token or a certificate, whoever reaches the address may look: nobody may reach it through
    /// a browser that was told another name for it.
    host: Option<IpAddr>,
}

#[derive(Debug)]
struct Tls {
    acceptor: Acceptor,
    fingerprint: String,
}

struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// What a connection has shown of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    /// A certificate of the site's authority for clients.
    Certified,
    /// Nothing yet.
    Stranger,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is answered.
    Yes,
    /// It needs the token.
    NeedsToken,
    /// It is for another host.
    OtherHost,
}

impl Doors {
    /// Reads everything that the site's files say.
    ///
    /// # Errors
    /// [`DoorsError`].
    pub(super) fn open(site: &Site) -> Result<Self, DoorsError> {
        let admin = &site.admin;
        let address = admin.listen.ip();
        let token = match &admin.token_file {
            Some(file) => Some(Token::read(file).map_err(fault("token-file", file))?),
            None => None,
        };
        let wants_tls =
            !address.is_loopback() || admin.certificate.is_some() || admin.clients.is_some();
        let tls = if wants_tls { Some(Tls::new(site, token.is_some())?) } else { None };
        let host = address.is_loopback().then_some(address);
        Ok(Self { tls, token, host })
    }

    pub(super) fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref().map(|tls| &tls.acceptor.0)
    }

    pub(super) fn fingerprint(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.fingerprint.as_str())
    }

    /// Whether a request is answered.
    pub(super) fn admits(&self, visitor: Visitor, headers: &HeaderMap) -> Admission {
        if let Some(own) = self.host
            && !headers.get(HOST).is_some_and(|host| is_local(host, own))
        {
            return Admission::OtherHost;
        }
        let Some(token) = &self.token else { return Admission::Yes };
        let shown = headers.get(AUTHORIZATION).and_then(shown_token);
        let known = shown.is_some_and(|shown| token.is(&shown));
        if known || visitor == Visitor::Certified { Admission::Yes } else { Admission::NeedsToken }
    }
}

impl Tls {
    fn new(site: &Site, has_token: bool) -> Result<Self, DoorsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let admin = &site.admin;
        let (certificate, key) = match (&admin.certificate, &admin.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            _ => own_files(site, &provider)?,
        };
        let chain = read_chain(&certificate).map_err(fault("certificate", &certificate))?;
        let end = chain.first().map(|end| fingerprint(end)).unwrap_or_default();
        let secret = read_secret(&key).map_err(fault("key", &key))?;
        let private = PrivateKeyDer::from_pem_slice(secret.as_bytes());
        let private = private.map_err(|error| fault("key", &key)(error.to_string()))?;
        let refused = |error: rustls::Error| fault("certificate", &certificate)(error.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(refused)?;
        let builder = match &admin.clients {
            Some(file) => {
                let roots = health::read_roots(file).map_err(fault("clients", file))?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                // Who has the token needs no certificate.
                let verifier = if has_token { verifier.allow_unauthenticated() } else { verifier };
                let verifier = verifier.build();
                let wrong = |error: rustls::server::VerifierBuilderError| error.to_string();
                builder.with_client_cert_verifier(
                    verifier.map_err(wrong).map_err(fault("clients", file))?,
                )
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, private).map_err(refused)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = Acceptor(TlsAcceptor::from(Arc::new(config)));
        Ok(Self { acceptor, fingerprint: end })
    }
}

fn own_files(
    site: &Site,
    provider: &Arc<CryptoProvider>,
) -> Result<(PathBuf, PathBuf), DoorsError> {
    // Beside the log: the daemon's own directory.
    let directory = site.audit.directory.with_file_name(DIRECTORY);
    let Admin { listen, .. } = &site.admin;
    let files = own::certificate(&directory, (&site.name, listen.ip()), provider)
        .map_err(|error| fault("certificate", &directory)(error.to_string()))?;
    Ok((files.certificate, files.key))
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: rustls::pki_types::pem::Error| error.to_string();
    let chain = CertificateDer::pem_file_iter(file).map_err(wrong)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if chain.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(chain) }
}

fn fault(key: &'static str, file: &Path) -> impl Fn(String) -> DoorsError {
    let file = file.to_owned();
    move |what| DoorsError { key, file: file.clone(), what }
}

/// SHA-256, as browsers show it.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate.as_ref());
    digest.iter().enumerate().fold(String::new(), |mut text, (place, byte)| {
        let colon = if place > 0 { ":" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
        text
    })
}

/// The token of `Authorization: Bearer` (RFC 6750) or the password of `Basic` (RFC 7617), which is what
/// a browser asks its user for.
fn shown_token(header: &HeaderValue) -> Option<String> {
    use base64::Engine as _;
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// Whether a `Host` is this box as seen from itself. A name that leads to 127.0.0.1 by somebody's DNS
/// would let their page read ours.
fn is_local(host: &HeaderValue, own: IpAddr) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    if without_port.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = without_port.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(without_port).parse::<IpAddr>();
    address.is_ok_and(|address| address == own || address.is_loopback())
}

const DIRECTORY: &str = "admin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_box_s_own_names_are_local() {
        let own = IpAddr::from([127, 0, 0, 2]);
        let local = |host: &str| is_local(&HeaderValue::from_str(host).expect("a header"), own);
        for host in
            ["localhost", "LocalHost:9443", "127.0.0.1", "127.0.0.1:9443", "[::1]:9443", "[::1]"]
        {
            assert!(local(host), "{host}");
        }
        for host in [
            "example.com",
            "example.com:9443",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1:9443",
            "",
            ":9443",
            "localhost:",
            "[::2]",
        ] {
            assert!(!local(host), "{host}");
        }
    }

    #[test]
    fn the_token_is_bearer_or_a_browser_s_password() {
        let shown = |text: &str| shown_token(&HeaderValue::from_str(text).expect("a header"));
        assert_eq!(shown("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(shown("basic YWRtaW46c2VjcmV0").as_deref(), Some("secret"));
        for bad in ["abc", "Digest abc", "Basic !!!", "Basic YWJj"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
