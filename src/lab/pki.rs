//! A certificate authority of the lab's own, and what it signs.
//!
//! One server certificate carries all names of the lab, on the private and on the public side, so
//! that a connection which leaks is a connection which works. Also written as PEM files for
//! programs outside this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::error::LabError;

/// A certificate chain of one, and its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    /// The certificate as a PEM file.
    pub certificate_file: PathBuf,
    /// The key as a PEM file.
    pub key_file: PathBuf,
}

/// The lab's certificates.
#[derive(Debug)]
pub struct Pki {
    roots: Arc<RootCertStore>,
    /// The authority's certificate as a PEM file.
    pub authority_file: PathBuf,
    /// The certificate of every server in the lab.
    pub server: Identity,
    /// The X.509 certificate of every device, as from AWS IoT.
    pub device: Identity,
    provider: Arc<CryptoProvider>,
}

impl Pki {
    /// Makes authority and certificates; `names` are those that servers answer to. The PEM files
    /// go into `directory`, which must exist.
    ///
    /// # Errors
    /// When a certificate cannot be made (a name that is none) or a file cannot be written.
    pub fn generate(directory: &Path, names: &[String]) -> Result<Self, LabError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Lab authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority_file = directory.join("ca.pem");
        write(&authority_file, &authority.pem())?;
        let server = Identity::signed(
            &authority,
            (directory, "server"),
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        let device = Identity::signed(
            &authority,
            (directory, "device"),
            &[],
            ExtendedKeyUsagePurpose::ClientAuth,
        )?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(Self { roots: Arc::new(roots), authority_file, server, device, provider })
    }

    /// How the lab's servers speak TLS: 1.2 and 1.3, a client certificate is welcome but not asked
    /// for in vain.
    ///
    /// # Errors
    /// When the TLS library refuses the certificates.
    pub fn server_config(&self, alpn: &[&str]) -> Result<ServerConfig, LabError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
        )
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.server.certificate.clone()], self.server.key.clone_key())?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }

    /// How the lab's clients speak TLS: they trust the lab's authority alone.
    ///
    /// # Errors
    /// When the TLS library refuses the certificates.
    pub fn client_config(&self, credential: Credential) -> Result<ClientConfig, LabError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots));
        Ok(match credential {
            Credential::None => builder.with_no_client_auth(),
            Credential::Device => builder.with_client_auth_cert(
                vec![self.device.certificate.clone()],
                self.device.key.clone_key(),
            )?,
        })
    }
}

/// What a client shows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    #[default]
    None,
    /// The devices' certificate.
    Device,
}

impl Identity {
    fn signed(
        authority: &CertifiedIssuer<'_, KeyPair>,
        (directory, file): (&Path, &str),
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Self, LabError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, format!("Lab {file}"));
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, authority)?;
        let certificate_file = directory.join(format!("{file}.pem"));
        let key_file = directory.join(format!("{file}.key"));
        write(&certificate_file, &certificate.pem())?;
        write(&key_file, &key.serialize_pem())?;
        let certificate = certificate.der().clone();
        Ok(Self { certificate, key: key.into(), certificate_file, key_file })
    }
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    std::fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))
}
