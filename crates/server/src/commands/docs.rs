//! `alpes docs --out DIR`: the documents that are generated from the code: events, problems, settings, OpenAPI,
//! AsyncAPI.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use kernel::Kind;

use crate::commands::config;

/// What `docs` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The directory to write to
    #[arg(long)]
    out: PathBuf,
}

/// Writes the documents.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.out)?;
    let mut options = log_pulsar::Options::new("", "");
    options.commands = crate::inbound::schemas();
    for (name, text) in [
        ("events.md", events()),
        ("problems.md", problems()),
        ("config.md", config::page()),
        ("openapi.json", web::openapi()),
        ("asyncapi.yaml", log_pulsar::asyncapi::page(&options).map_err(anyhow::Error::msg)?),
    ] {
        std::fs::write(arguments.out.join(name), text.trim_end().to_owned() + "\n")?;
    }
    Ok(())
}

fn events() -> String {
    let consumers = crate::wiring::consumers(crate::wiring::Settings::default());
    let mut readers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for consumer in &consumers {
        for event_type in &consumer.types {
            readers.entry(event_type).or_default().push(consumer.name);
        }
    }
    let catalogue = events::catalogue();
    let mut page = String::from(
        "# Events\n\nGenerated from the code: `cargo x docs`. Every change of state is one of these; `GET /v1/events` gives them \
         from any position, for ever. They carry no personal data.\n\n| event | aggregate | meaning | read by |\n|---|---|---|---|\n",
    );
    for descriptor in &catalogue {
        let (name, aggregate, meaning) = (descriptor.event_type, descriptor.aggregate, descriptor.meaning);
        let read_by = readers.get(name).map_or_else(|| "-".to_owned(), |names| names.join(", "));
        page += &format!("| [`{name}`](#{}) | {aggregate} | {meaning} | {read_by} |\n", name.replace('.', ""));
    }
    for descriptor in &catalogue {
        page += &format!(
            "\n## {}\n\n{}\n\n```json\n{}\n```\n",
            descriptor.event_type,
            descriptor.meaning,
            (descriptor.sample)()
        );
    }
    page
}

fn problems() -> String {
    let mut page = String::from(
        "# Problems\n\nGenerated from the code: `cargo x docs`. Every error is `application/problem+json` with one of these codes; \
         `errors[]` points at what is wrong.\n\n| code | status | meaning | what to do |\n|---|---|---|---|\n",
    );
    let mut problems = web::problems();
    problems.extend(log_pulsar::problems());
    problems.extend(cdc::PROBLEMS);
    problems.sort_by_key(|problem| problem.code);
    for problem in problems {
        page +=
            &format!("| `{}` | {} | {} | {} |\n", problem.code, status(problem.kind), problem.title, problem.remedy);
    }
    page
}

fn status(kind: Kind) -> u16 {
    web::status(kind).as_u16()
}
