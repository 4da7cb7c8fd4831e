//! The listener's own certificate, for a site that gives none.
//!
//! Made once and kept, so that whoever has compared its fingerprint sees when it is another one. Made
//! anew when it is over or for another address.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

/// The two files.
#[derive(Clone, Debug)]
pub(super) struct OwnFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The files of the own certificate for an address; made where there are none that fit.
///
/// # Errors
/// It cannot be made or written.
pub(super) fn certificate(
    directory: &Path,
    (site, address): (&str, IpAddr),
    provider: &Arc<CryptoProvider>,
) -> io::Result<OwnFiles> {
    let files =
        OwnFiles { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") };
    if files.key.exists() && fits(&files.certificate, address, provider) {
        return Ok(files);
    }
    fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    let (certificate, key) = make(site, address).map_err(io::Error::other)?;
    // The key first: a certificate without its key would be taken for one that fits.
    write(&files.key, &key, 0o600)?;
    write(&files.certificate, &certificate, 0o644)?;
    Ok(files)
}

fn fits(file: &Path, address: IpAddr, provider: &Arc<CryptoProvider>) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_file(file) else { return false };
    let mut roots = RootCertStore::empty();
    if roots.add(certificate.clone()).is_err() {
        return false;
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let name = ServerName::IpAddress(address.into());
    verifier.is_ok_and(|verifier| {
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).is_ok()
    })
}

fn make(site: &str, address: IpAddr) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new([address.to_string(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, format!("Sluicegate {site}"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let now = OffsetDateTime::now_utc();
    // A box's clock may be behind when it first starts.
    params.not_before = now - Duration::days(30);
    params.not_after = now + Duration::days(3_650);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Whole or not at all.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let fresh = file.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(fresh, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_kept_while_it_fits() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("admin");
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let read = |files: &OwnFiles| fs::read(&files.certificate).expect("the certificate");
        let made = certificate(&place, ("site", address(1)), &provider).expect("made");
        let first = read(&made);
        let mode = fs::metadata(&made.key).expect("the key").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let kept = certificate(&place, ("site", address(1)), &provider).expect("kept");
        assert_eq!(read(&kept), first);
        let other = certificate(&place, ("site", address(2)), &provider).expect("another address");
        assert_ne!(read(&other), first);
        fs::write(&other.certificate, "damaged").expect("damage");
        let mended = certificate(&place, ("site", address(2)), &provider).expect("made anew");
        assert!(fits(&mended.certificate, address(2), &provider));
    }
}
