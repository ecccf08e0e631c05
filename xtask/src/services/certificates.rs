//! A certificate for a service, from an authority of its own: so that tests speak to it encrypted, and know it.

use super::place::{Place, User};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where clients find the authority.
const AUTHORITY: &str = "authority.pem";
pub(super) const CERTIFICATE: &str = "server.pem";
pub(super) const KEY: &str = "server.key";

/// Makes authority, certificate and key in the service's data directory, owned by its user.
pub(super) fn make(place: &Place, data: &Path, user: Option<User>) -> Result<()> {
    let issue = |name: &str, certificate: &str, key: &str, more: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "30", "-subj", &format!("/CN={name}"), "-out", certificate, "-keyout", key]);
        openssl.args(more).current_dir(data);
        if let Some(user) = user {
            user.runs(&mut openssl);
        }
        place.run(openssl)
    };
    issue("authority of the tests", AUTHORITY, "authority.key", &["-addext", "keyUsage=critical,keyCertSign"])?;
    // Only the name: a client that asks for the address must refuse it.
    let of_server = ["-CA", AUTHORITY, "-CAkey", "authority.key", "-addext", "subjectAltName=DNS:localhost"];
    let of_server = [&of_server[..], &["-addext", "basicConstraints=critical,CA:FALSE"]].concat();
    issue("service of the tests", CERTIFICATE, KEY, &of_server)?;
    // The data directory is its user's alone.
    std::fs::copy(data.join(AUTHORITY), place.home.join(AUTHORITY)).context("copying the authority's certificate")?;
    Ok(())
}

/// The authority of a service, if it has one.
pub(super) fn authority(base: &Path, name: &str) -> Option<PathBuf> {
    Some(Place::of(base, name).home.join(AUTHORITY)).filter(|file| file.is_file())
}
