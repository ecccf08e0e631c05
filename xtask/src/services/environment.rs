//! The environment variables that lead tests to running services, as a file for shells and as values for tasks.

use super::{Record, Service};
use anyhow::{Context as _, Result};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The file's name in the services' directory.
pub(super) const FILE: &str = "environment";

pub(super) fn variables(service: Service, record: &Record) -> Vec<(String, String)> {
    let port = record.port;
    let mut variables = match service {
        Service::Postgres => vec![("ALPES_TEST_POSTGRES", format!("postgres://alpes:alpes@127.0.0.1:{port}/alpes"))],
        Service::Mariadb => vec![("ALPES_TEST_MARIADB", format!("mysql://alpes:alpes@127.0.0.1:{port}/alpes"))],
        Service::Pulsar => vec![("ALPES_TEST_PULSAR", format!("pulsar://127.0.0.1:{port}"))],
    };
    if let Some(port) = record.admin_port {
        variables.push(("ALPES_TEST_PULSAR_ADMIN", format!("http://127.0.0.1:{port}")));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(super) fn line(name: &str, value: &str) -> String {
    format!("export {name}={value}")
}

/// Writes the file whole; one without variables says that nothing runs.
pub(super) fn write(base: &Path, variables: &[(String, String)]) -> Result<()> {
    let text: String = variables.iter().map(|(name, value)| line(name, value) + "\n").collect();
    let file = base.join(FILE);
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

/// A program by which tests make faults of a service; answers its path.
pub(super) fn write_control(base: &Path, name: &str) -> Result<String> {
    let file = base.join(format!("control-{name}"));
    let runner = std::env::current_exe()?;
    let text = format!("#!/bin/sh\nexec '{}' services fault {name} \"$1\"\n", runner.display());
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(std::path::absolute(&file)?.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_variables_and_a_shell_can_read_them() {
        let mut record = Record::default();
        record.port = 5;
        let mut with_admin = record.clone();
        with_admin.admin_port = Some(6);
        let all = [
            variables(Service::Postgres, &record),
            variables(Service::Mariadb, &record),
            variables(Service::Pulsar, &with_admin),
        ];
        let lines: Vec<String> = all.iter().flatten().map(|(name, value)| line(name, value)).collect();
        let expected = [
            "export ALPES_TEST_POSTGRES=postgres://alpes:alpes@127.0.0.1:5/alpes",
            "export ALPES_TEST_MARIADB=mysql://alpes:alpes@127.0.0.1:5/alpes",
            "export ALPES_TEST_PULSAR=pulsar://127.0.0.1:5",
            "export ALPES_TEST_PULSAR_ADMIN=http://127.0.0.1:6",
        ];
        assert_eq!(lines, expected);
    }
}
