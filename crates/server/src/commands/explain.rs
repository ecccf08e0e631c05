//! `alpes explain <commission>`: the same explanation as `GET /v1/commissions/{id}/explanation`.

use clap::Args;
use kernel::CommissionId;

use crate::cli::Common;
use crate::{output, wiring};

/// What `explain` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The commission: com_…
    id: CommissionId,
}

/// Prints the explanation.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<()> {
    let db = wiring::open_beside(&common.data)?;
    let explanation = db.read(|reader| commissions::explanation(reader, arguments.id))?;
    let document = serde_json::to_value(&explanation)?;
    if common.json {
        return output::json(&document);
    }
    print(&document, 0);
    Ok(())
}

/// Prints a document as indented lines, which people read more easily than braces.
fn print(value: &serde_json::Value, depth: usize) {
    let margin = "  ".repeat(depth);
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    serde_json::Value::Object(_) | serde_json::Value::Array(_) => {
                        println!("{margin}{}", output::bold(name));
                        print(field, depth + 1);
                    }
                    plain => println!("{margin}{} {}", output::faint(&format!("{name}:")), text(plain)),
                }
            }
        }
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                match item {
                    serde_json::Value::Object(_) | serde_json::Value::Array(_) => {
                        println!("{margin}{}", output::faint(&format!("{}.", index + 1)));
                        print(item, depth + 1);
                    }
                    plain => println!("{margin}- {}", text(plain)),
                }
            }
        }
        plain => println!("{margin}{}", text(plain)),
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
