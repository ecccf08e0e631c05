//! How connections to servers are encrypted, as the URL says: `sslmode=disable|require|verify-full` and
//! `sslrootcert=FILE`, the same words for every server. It must not know what travels.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::{Fault, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::connection::REFUSED;

/// How a connection is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// Whoever answers: nobody can listen, but somebody could stand in between.
    Encrypted,
    /// The server's certificate is for the name that the URL has, and comes from an authority in this file; without a file,
    /// from one that the public trusts.
    Verified(Option<PathBuf>),
}

impl Tls {
    /// Takes the parameters out of a URL; those in `passed` stay in it, and any other is an error.
    pub(crate) fn of(url: &str, passed: &[&str]) -> std::result::Result<(String, Self), String> {
        let Some((bare, query)) = url.split_once('?') else { return Ok((url.to_owned(), Self::Off)) };
        let (mut mode, mut root, mut kept) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("sslmode", value) => mode = Some(value),
                ("sslrootcert", value) => root = Some(value),
                (name, _) if passed.contains(&name) => kept.push(pair),
                (name, _) => return Err(unknown(name)),
            }
        }
        if root.is_some_and(|root| root.is_empty() || root.contains('%')) {
            return Err("sslrootcert is the path of a file as it is, without %".to_owned());
        }
        let tls = match (mode, root) {
            (None | Some("disable"), None) => Self::Off,
            (Some("require"), None) => Self::Encrypted,
            (Some("verify-full"), root) => Self::Verified(root.map(PathBuf::from)),
            (None | Some("disable" | "require"), Some(_)) => {
                return Err("sslrootcert is only looked at with sslmode=verify-full".to_owned());
            }
            _ => return Err("sslmode is disable, require or verify-full".to_owned()),
        };
        let kept = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        Ok((format!("{bare}{kept}"), tls))
    }

    /// What rustls is told; nothing when nothing is encrypted. Fault: `database_refused` when the file has no certificates.
    pub fn client(&self) -> Result<Option<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(Fault::internal)?;
        Ok(match self {
            Self::Off => None,
            Self::Encrypted => {
                let anybody = Arc::new(Anybody(provider));
                Some(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth())
            }
            Self::Verified(file) => Some(builder.with_root_certificates(roots(file.as_deref())?).with_no_client_auth()),
        })
    }

    /// What the client of MariaDB is told. It trusts public authorities beside those of the file.
    pub fn mysql(&self) -> Option<mysql::SslOpts> {
        let options = mysql::SslOpts::default();
        match self {
            Self::Off => None,
            Self::Encrypted => {
                Some(options.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true))
            }
            Self::Verified(file) => Some(options.with_root_cert_path(file.clone())),
        }
    }

    /// A connection to PostgreSQL; the inner error is the server's or the handshake's.
    pub fn postgres(
        &self,
        mut config: postgres::Config,
    ) -> Result<std::result::Result<postgres::Client, postgres::Error>> {
        use postgres::config::SslMode;
        Ok(match self.client()? {
            None => config.ssl_mode(SslMode::Disable).connect(postgres::NoTls),
            Some(client) => {
                let encrypted = tokio_postgres_rustls::MakeRustlsConnect::new(client);
                config.ssl_mode(SslMode::Require).connect(encrypted)
            }
        })
    }
}

/// The name of a parameter is shown when it cannot be a part of a password with a question mark.
fn unknown(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'-');
    let which = if is_plain { format!("the parameter {name}") } else { "a parameter".to_owned() };
    format!("it has {which}, which is not known; there are sslmode and sslrootcert")
}

fn roots(file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let refused = |error: &dyn std::fmt::Display| {
        Fault::new(&REFUSED, format!("sslrootcert={} cannot be used: {error}", file.display()))
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| refused(&error))? {
        let certificate = certificate.map_err(|error| refused(&error))?;
        roots.add(certificate).map_err(|error| refused(&error))?;
    }
    if roots.is_empty() { Err(refused(&"it holds no certificate (PEM)")) } else { Ok(roots) }
}

/// What a failed handshake means for whoever chose the parameters; nothing when it failed for another reason.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let words = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let detail = if words.contains("certificate") {
        "the server's certificate is not accepted: name the file of its authority by sslrootcert=FILE, and the server by a \
         name or address that the certificate has"
    } else if words.contains("does not support TLS") || words.contains("does not have this capability") {
        "the server does not encrypt: switch it on there (PostgreSQL: `ssl = on`; MariaDB: `ssl-cert`, `ssl-key`), or use \
         sslmode=disable where nobody can listen"
    } else {
        return None;
    };
    Some(Fault::new(&REFUSED, detail).caused_by(words))
}

/// Takes whoever answers, as `sslmode=require` does everywhere; that it has the key of its certificate is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::{Location, Place};

    #[test]
    fn parameters_are_understood_or_refused_without_repeating_a_password() {
        let of = |url: &str| Tls::of(url, &["host"]);
        let file = || Some(PathBuf::from("/etc/ca.pem"));
        for (url, bare, tls) in [
            ("postgres://a:b@h/d", "postgres://a:b@h/d", Tls::Off),
            ("postgres://a:b@h/d?sslmode=disable", "postgres://a:b@h/d", Tls::Off),
            ("postgres:///d?host=/run/pg&sslmode=disable", "postgres:///d?host=/run/pg", Tls::Off),
            ("mysql://a:b@h/d?sslmode=require", "mysql://a:b@h/d", Tls::Encrypted),
            ("mysql://a:b@h/d?sslmode=verify-full", "mysql://a:b@h/d", Tls::Verified(None)),
            ("x://h/d?sslmode=verify-full&sslrootcert=/etc/ca.pem", "x://h/d", Tls::Verified(file())),
        ] {
            assert_eq!(of(url).unwrap(), (bare.to_owned(), tls));
        }
        for (url, words) in [
            ("x://h/d?ssl=true", "the parameter ssl, which is not known"),
            ("x://a:Sec?ret@h/d", "it has a parameter, which is not known"),
            ("x://h/d?sslmode=verify-ca", "disable, require or verify-full"),
            ("x://h/d?sslmode", "disable, require or verify-full"),
            ("x://h/d?sslrootcert=/etc/ca.pem", "only looked at with sslmode=verify-full"),
            ("x://h/d?sslmode=require&sslrootcert=/etc/ca.pem", "only looked at with sslmode=verify-full"),
            ("x://h/d?sslmode=verify-full&sslrootcert=/a%20b", "without %"),
        ] {
            let error = of(url).unwrap_err();
            assert!(error.contains(words) && !error.contains("ret"), "{error}");
        }
        let missing = Location::parse("postgres://h/d?sslmode=verify-full&sslrootcert=/nowhere.pem", Path::new("."));
        assert!(missing.unwrap_err().detail().contains("/nowhere.pem"));
    }

    /// Against a server on 127.0.0.1 with a certificate for localhost from an authority of its own, whose file is ALPES_TEST_DATABASE_CA.
    #[test]
    fn a_server_is_spoken_to_as_the_url_says_and_not_otherwise() {
        let (Ok(url), Ok(authority)) = (std::env::var("ALPES_TEST_DATABASE"), std::env::var("ALPES_TEST_DATABASE_CA"))
        else {
            return;
        };
        let ways = |url: &str| Location::parse(url, Path::new(".")).unwrap().0;
        let is_encrypted = |place: &Place| {
            let connection = place.connect(false).map_err(|fault| fault.detail().to_owned())?;
            let sql = match place {
                Place::Postgres(_) => {
                    "SELECT CAST(CASE WHEN ssl THEN version END AS TEXT) FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                }
                _ => {
                    "SELECT NULLIF(variable_value, '') FROM information_schema.session_status \
                      WHERE variable_name = 'SSL_VERSION'"
                }
            };
            let mut version = None;
            connection
                .query(sql, std::iter::empty(), |row| {
                    version = row.opt_text(0)?.map(str::to_owned);
                    Ok(())
                })
                .unwrap();
            Ok::<_, String>(version.is_some_and(|version| version.starts_with("TLSv1.")))
        };
        let named = url.replace("127.0.0.1", "localhost");
        let verified = format!("?sslmode=verify-full&sslrootcert={authority}");
        for (url, expected) in [
            (url.clone(), Ok(false)),
            (format!("{url}?sslmode=disable"), Ok(false)),
            (format!("{url}?sslmode=require"), Ok(true)),
            (format!("{named}{verified}"), Ok(true)),
        ] {
            assert_eq!(is_encrypted(&ways(&url)), expected);
        }
        for url in [format!("{url}?sslmode=verify-full"), format!("{url}{verified}")] {
            let refused = is_encrypted(&ways(&url)).unwrap_err();
            assert!(refused.contains("the server's certificate is not accepted"), "{refused}");
        }
    }
}
