//! Certificates for tests: one authority, servers on this machine, clients by name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority whose certificates lie as files in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority, and writes `ca.crt` and `ca.key` to `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("ca.crt"), params.self_signed(&key)?.pem())?;
        fs::write(folder.join("ca.key"), key.serialize_pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The authority's own key, for whoever shall sign in its name.
    pub fn key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// A certificate for servers on this machine, in `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn server(&self, name: &str) -> Result<Pair> {
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write(name, params)
    }

    /// A certificate of a client called `user`, in `NAME.crt` and `NAME.key`. Made again with another `user` it takes the
    /// place of the first, as a rotation does.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn client(&self, name: &str, user: &str) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.write(name, params)
    }

    /// A certificate of a client called `user` that was valid for a day, years ago.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn expired_client(&self, name: &str, user: &str) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
        self.write(name, params)
    }

    fn write(&self, name: &str, mut params: CertificateParams) -> Result<Pair> {
        // As usual authorities do: OpenSSL finds the right one of two with one name by it.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .context("failed to sign a certificate")?;
        let pair = Pair {
            cert: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        replace(&pair.cert, &cert.pem())?;
        replace(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

/// Whoever reads the file sees the old text or the new one, never a part.
fn replace(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)?;
    Ok(())
}
