//! `alpes keys create|list|revoke`. Works beside a running server too.

use clap::{Args, Subcommand};
use kernel::ApiKeyId;
use platform::Lane;

use crate::cli::Common;
use crate::output::{self, Table};
use crate::wiring;

/// What `keys` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create a key; it is shown once
    Create(Create),
    /// List the keys, without their secrets
    List,
    /// Revoke a key
    Revoke(Revoke),
}

/// What `keys create` takes.
#[derive(Args)]
pub(crate) struct Create {
    /// Who uses it; the actor of everything that is done with it
    #[arg(long)]
    name: String,
    /// What it may do, separated by commas: * or partners:read, conversions:write, …
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// Days until it expires
    #[arg(long, value_name = "DAYS")]
    expires_in_days: Option<u32>,
}

/// What `keys revoke` takes.
#[derive(Args)]
pub(crate) struct Revoke {
    /// The key: key_…
    id: ApiKeyId,
}

/// Runs the subcommand.
pub(crate) fn run(common: &Common, command: Command) -> anyhow::Result<()> {
    let db = wiring::open_beside(&common.location()?)?;
    match command {
        Command::Create(create) => {
            let new = web::keys::NewKey::parse(&create.name, &create.scopes, create.expires_in_days)?;
            let secret = db.random();
            let created = db.write("keys", Lane::Front, "cli", |tx| web::keys::create(tx, &new, secret))?;
            if common.json {
                return output::json(&created);
            }
            output::say!("{}\n", created.key);
            output::say!(
                "This is the key of {:?}, shown this once. Send it as `Authorization: Bearer <key>`.",
                create.name
            );
        }
        Command::List => {
            let keys = db.read(web::keys::list)?;
            if common.json {
                return output::json(&keys);
            }
            let mut table = Table::new(&["id", "name", "scopes", "created", "expires", "revoked"]);
            let time = |time: Option<kernel::Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
            for key in keys {
                table.row([
                    key.id.to_string(),
                    key.name,
                    key.scopes.join(","),
                    key.created_at.to_string(),
                    time(key.expires_at),
                    time(key.revoked_at),
                ]);
            }
            table.print();
        }
        Command::Revoke(revoke) => {
            db.write("keys", Lane::Front, "cli", |tx| web::keys::revoke(tx, revoke.id))?;
            if common.json {
                return output::json(&serde_json::json!({ "revoked": revoke.id }));
            }
            output::say!("{} is revoked; a running server notices within five seconds.", revoke.id);
        }
    }
    Ok(())
}
