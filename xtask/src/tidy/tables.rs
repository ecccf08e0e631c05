//! A context's SQL names its own tables and the published ones (`pub_*`), never another's insides.
//!
//! A table's owner is the crate whose `migrations/` create it. Everybody may read a published table; only its owner
//! may write it. The check reads string literals, so a table's name has to be spelled out where SQL is written.

use super::source::{Kind, Source};
use super::{Report, repository::File, repository::Repository};
use anyhow::Result;
use std::collections::BTreeMap;

/// These build SQL for others (platform), or look at everything on purpose (server: verify, tests of the whole).
const EXEMPT: [&str; 1] = ["server"];
/// What the stream of changes reads of platform's: the event store, whose inserts it tells.
const LOG: [&str; 2] = ["outbox_event", "log_head"];

pub(super) fn check(repository: &Repository) -> Result<Report> {
    let mut broken = Vec::new();
    let owners = owners(repository, &mut broken);
    let mut mentions = 0;
    for file in &repository.files {
        let Some(owner) = file.owner().filter(|owner| !EXEMPT.contains(owner)) else { continue };
        // Test files plant differences in the log and in cursors, to see that the checks find them.
        let is_test = file.path.ends_with("/tests.rs") || file.path.contains("/src/tests/");
        if is_test || file.inside().starts_with("tests/") || file.inside().starts_with("examples/") {
            continue;
        }
        for (line, mention) in mentions_of(file) {
            mentions += 1;
            if let Some(what) = objection(owner, &mention, &owners) {
                broken.push(format!("{}:{line}: {what}", file.path));
            }
        }
    }
    Ok(Report {
        rule: "SQL names only own and published tables",
        looked_at: format!("{} tables, {mentions} mentions", owners.len()),
        broken,
        notes: Vec::new(),
    })
}

/// A table named in SQL.
#[derive(Debug, PartialEq)]
struct Mention {
    /// Lower case; `{` when it is filled in at run time.
    table: String,
    writes: bool,
}

/// Which crate created each table. A crate's tests may create tables of their own in their SQL.
fn owners(repository: &Repository, broken: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for file in &repository.files {
        let Some(owner) = file.owner() else { continue };
        let in_migrations = file.inside().starts_with("migrations/") && file.path.ends_with(".sql");
        let created: Vec<String> = match &file.source {
            Some(source) => {
                let by_sql = texts(source).flat_map(|(_, text)| created(&words(text)));
                by_sql.chain(published(source)).collect()
            }
            None if in_migrations => created(&words(&file.text)),
            None => Vec::new(),
        };
        for table in created {
            let first = owners.entry(table.clone()).or_insert_with(|| owner.to_owned());
            if first != owner {
                broken.push(format!("{}: creates {table}, which {first} creates too", file.path));
            }
        }
    }
    owners
}

/// The tables of `published_table!("name")`.
fn published(source: &Source) -> impl Iterator<Item = String> {
    source.tokens.iter().enumerate().filter_map(|(at, token)| match &token.kind {
        Kind::Text(table) if at >= 3 && source.reads(at - 3, &["published_table", "!", "("]) => Some(table.clone()),
        _ => None,
    })
}

fn objection(owner: &str, mention: &Mention, owners: &BTreeMap<String, String>) -> Option<String> {
    let table = &mention.table;
    if table == "{" {
        return (owner != "platform").then(|| "a table's name is filled in: spell it out".to_owned());
    }
    match owners.get(table) {
        Some(creator) if creator == owner => None,
        Some(creator) if table.starts_with("pub_") && mention.writes => {
            Some(format!("{owner} writes {table}, which only {creator} may write"))
        }
        Some(_) if table.starts_with("pub_") => None,
        Some(_) if owner == "cdc" && LOG.contains(&table.as_str()) && !mention.writes => None,
        Some(creator) => Some(format!("{owner} names {table}, which belongs to {creator}")),
        None if owner == "platform" && (table.starts_with("sqlite_") || table.starts_with("pragma_")) => None,
        // What the servers tell of themselves.
        None if ["cdc", "platform"].contains(&owner) && (table.starts_with("pg_") || table == "information_schema") => {
            None
        }
        None => Some(format!("{owner} names {table}, which no migration creates")),
    }
}

fn mentions_of(file: &File) -> Vec<(usize, Mention)> {
    match &file.source {
        Some(source) => {
            let in_sql =
                texts(source).flat_map(|(line, text)| mentions(&words(text)).into_iter().map(move |m| (line, m)));
            in_sql.chain(calls(source)).collect()
        }
        None if file.path.ends_with(".sql") => mentions(&words(&file.text)).into_iter().map(|m| (1, m)).collect(),
        None => Vec::new(),
    }
}

fn texts(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.tokens.iter().filter(|token| !token.in_attribute).filter_map(|token| match &token.kind {
        Kind::Text(text) => Some((token.line, text.as_str())),
        _ => None,
    })
}

/// A table's name without SQL around it: `tx.insert("table", …)`, `const TABLE: &str = "table"`.
fn calls(source: &Source) -> impl Iterator<Item = (usize, Mention)> {
    source.tokens.iter().enumerate().filter_map(|(at, token)| {
        let Kind::Text(table) = &token.kind else { return None };
        let writes = at >= 4
            && source.word(at - 4).is_some_and(|word| word.ends_with("tx"))
            && source.reads(at - 3, &["."])
            && source.word(at - 2).is_some_and(|word| word == "insert" || word == "update_many")
            && source.reads(at - 1, &["("]);
        let names = (at.saturating_sub(8)..at)
            .any(|at| source.reads(at, &["const"]) && source.word(at + 1).is_some_and(|word| word.ends_with("TABLE")));
        (writes || names).then(|| (token.line, Mention { table: table.to_lowercase(), writes }))
    })
}

/// A text cut into words and marks. Quoted values and comments are left out; `{…}` becomes `{`.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\'' => while rest.next().is_some_and(|(_, c)| c != '\'') {},
            '-' if text[at..].starts_with("--") => while rest.next().is_some_and(|(_, c)| c != '\n') {},
            '{' => {
                while rest.next().is_some_and(|(_, c)| c != '}') {}
                words.push("{".into());
            }
            '\\' if text[at..].starts_with("\\n") || text[at..].starts_with("\\t") => {
                rest.next();
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = c.to_string();
                while let Some((_, c)) = rest.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                words.push(word);
            }
            '(' | ')' | ',' | '?' | ';' | '.' | '*' => words.push(c.to_string()),
            _ => {}
        }
    }
    words
}

fn is(words: &[String], at: usize, expected: &str) -> bool {
    words.get(at).is_some_and(|word| word.eq_ignore_ascii_case(expected))
}

/// Prose says "update the …" too, but it does not begin like a statement nor shout its keywords.
fn is_sql(words: &[String]) -> bool {
    let begins =
        |first: &str, then: &str| is(words, 0, first) && words.iter().any(|word| word.eq_ignore_ascii_case(then));
    words.iter().any(|word| ["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "INDEX"].contains(&word.as_str()))
        || [("select", "from"), ("with", "as"), ("insert", "into"), ("update", "set"), ("delete", "from")]
            .iter()
            .any(|(first, then)| begins(first, then))
}

fn created(words: &[String]) -> Vec<String> {
    let tables = (0..words.len()).filter(|at| is(words, *at, "create") && is(words, at + 1, "table"));
    tables.filter_map(|at| words.get(after_if(words, at + 2))).map(|table| table.to_lowercase()).collect()
}

/// Skips IF [NOT] EXISTS.
fn after_if(words: &[String], at: usize) -> usize {
    match (is(words, at, "if"), is(words, at + 1, "not")) {
        (true, true) => at + 3,
        (true, false) => at + 2,
        _ => at,
    }
}

fn mentions(words: &[String]) -> Vec<Mention> {
    if !is_sql(words) {
        return Vec::new();
    }
    let own_names = named_subqueries(words);
    let mut found = Vec::new();
    let mut note = |at: usize, writes: bool| {
        let Some(name) = words.get(at) else { return };
        let is_name = name == "{" || name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let is_function = !writes && is(words, at + 1, "(");
        let table = name.to_lowercase();
        if is_name && !is_function && !own_names.contains(&table) && table != "select" && table != "set" {
            found.push(Mention { table, writes });
        }
    };
    for at in 0..words.len() {
        let follows = |word: &str| at > 0 && is(words, at - 1, word);
        match words[at].to_lowercase().as_str() {
            "from" if !follows("distinct") => {
                note(at + 1, follows("delete"));
                others_of_a_list(words, at + 1).for_each(|at| note(at, false));
            }
            "join" | "references" => note(at + 1, false),
            "into" => note(at + 1, true),
            "update" if !["for", "do", "key", "on"].iter().any(|word| follows(word)) => {
                note(if is(words, at + 1, "or") { at + 3 } else { at + 1 }, true);
            }
            "table" if ["create", "alter", "drop"].iter().any(|word| follows(word)) => {
                note(after_if(words, at + 1), true)
            }
            "index" => {
                let on = (at + 1..at + 6).find(|on| is(words, *on, "on"));
                if let Some(on) = on {
                    note(on + 1, true);
                }
            }
            _ => {}
        }
    }
    found
}

/// The further tables of `FROM a x, b AS y`.
fn others_of_a_list(words: &[String], first: usize) -> impl Iterator<Item = usize> {
    let ends =
        |word: &str| word == "(" || word == ")" || word == ";" || KEYWORDS.contains(&word.to_lowercase().as_str());
    let list = (first..words.len()).take_while(move |at| !ends(&words[*at]));
    list.filter(|at| words[*at] == ",").map(|comma| comma + 1)
}

/// What can follow a list of tables.
const KEYWORDS: [&str; 14] = [
    "where", "group", "order", "limit", "having", "union", "join", "left", "inner", "cross", "on", "set", "using",
    "window",
];

/// The names that `WITH name AS (…)` gives inside a statement.
fn named_subqueries(words: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for at in (0..words.len()).filter(|at| is(words, at + 1, "as") && is(words, at + 2, "(")) {
        let mut name = at;
        if words[at] == ")" {
            name = (0..at).rfind(|open| words[*open] == "(").unwrap_or(0).saturating_sub(1);
        }
        names.push(words[name].to_lowercase());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(sql: &str) -> Vec<String> {
        let mark = |m: Mention| if m.writes { format!("{}!", m.table) } else { m.table };
        mentions(&words(sql)).into_iter().map(mark).collect()
    }

    #[test]
    fn tables_are_found_where_sql_names_them() {
        let cases: [(&str, &[&str]); 19] = [
            ("SELECT a, b FROM partner WHERE c IN (?*)", &["partner"]),
            ("select a from partner p, campaign AS c where p.x = c.y", &["partner", "campaign"]),
            ("SELECT a FROM x JOIN y ON x.a = y.a LEFT JOIN z USING (a), q", &["x", "y", "z"]),
            ("SELECT (SELECT MAX(b) FROM inner_one) FROM outer_one", &["inner_one", "outer_one"]),
            ("SELECT a FROM (SELECT b FROM deep) d", &["deep"]),
            ("WITH w AS (SELECT a FROM x), v(b) AS (SELECT a FROM w) SELECT b FROM v", &["x"]),
            ("INSERT INTO posting(a, b) SELECT a, b FROM entry", &["posting!", "entry"]),
            ("INSERT OR IGNORE INTO t (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET b = 1", &["t!"]),
            ("INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a = a", &["t!"]),
            ("UPDATE partner SET a = ? WHERE id = ?", &["partner!"]),
            ("DELETE FROM parked WHERE a IS DISTINCT FROM b", &["parked!"]),
            (" FROM late_fragment ORDER BY x", &["late_fragment"]),
            ("SELECT x FROM {table} WHERE y = {value}", &["{"]),
            ("SELECT 'a FROM b' FROM c -- FROM d\n", &["c"]),
            ("SELECT a\\n FROM \\\"quoted\\\" FOR UPDATE", &["quoted"]),
            ("SELECT value FROM json_each(?)", &[]),
            ("CREATE INDEX IF NOT EXISTS i ON t (a); CREATE TABLE u (a REFERENCES v(b))", &["t!", "u!"]),
            ("update the partner's bank from the list", &[]),
            ("choose one from the list, or insert into the table", &[]),
        ];
        for (sql, expected) in cases {
            assert_eq!(tables(sql), expected, "{sql}");
        }
    }

    fn broken(path: &str, text: &str) -> Vec<String> {
        let repository = Repository::planted(&[
            (
                "crates/partners/migrations/1.sql",
                "CREATE TABLE partner (id BLOB);\nCREATE TABLE pub_partner (id BLOB);",
            ),
            ("crates/payments/migrations/1.sql", "create table if not exists payout (id BLOB);"),
            ("crates/ledger/migrations/1.sql", "CREATE TABLE posting (id BLOB);"),
            ("crates/platform/migrations/1.sql", "CREATE TABLE outbox_event (id BLOB);\nCREATE TABLE seal (id BLOB);"),
            (path, text),
        ]);
        check(&repository).unwrap().broken
    }

    #[test]
    fn own_tables_and_published_ones_are_accepted() {
        let text = "fn a(tx: &mut Tx) { tx.query(\"SELECT id FROM payout JOIN pub_partner ON a = b\", &[]);
                    tx.insert(\"payout\", &[]); map.insert(\"partner\", 1); say(\"select one from the list\"); }";
        let found = broken("crates/payments/src/a.rs", text);
        assert_eq!(
            found,
            ["crates/payments/src/a.rs:2: payments names the, which no migration creates"],
            "prose like SQL"
        );
        let text = "mod tests { fn a(db: &Db) { db.run(\"CREATE TABLE probe (a INTEGER)\"); db.run(\"INSERT INTO probe VALUES (1)\"); } }";
        assert_eq!(broken("crates/payments/src/b.rs", text), Vec::<String>::new());
        let text =
            "const M: &str = published_table!(\"pub_bank\"); fn a(tx: &mut Tx) { tx.insert(\"pub_bank\", &[]); }";
        assert_eq!(broken("crates/payments/src/lib.rs", text), Vec::<String>::new());
        assert_eq!(
            broken("crates/events/src/partners.rs", "const TABLE: &str = \"pub_partner\";"),
            Vec::<String>::new()
        );
        let text = "fn a(tx: &mut Tx) { tx.query(\"SELECT id FROM posting, partner\"); }";
        assert_eq!(broken("crates/server/src/verify.rs", text), Vec::<String>::new(), "looks at everything on purpose");
    }

    #[test]
    fn the_stream_of_changes_reads_the_event_store_and_catalogues_only() {
        let text = "const A: &str = \"SELECT id FROM outbox_event, pg_publication\";";
        assert_eq!(broken("crates/cdc/src/a.rs", text), Vec::<String>::new());
        let planted = "const B: &str = \"DELETE FROM outbox_event\"; const C: &str = \"SELECT id FROM seal, x\";";
        assert_eq!(broken("crates/cdc/src/b.rs", planted).len(), 3);
        assert_eq!(broken("crates/cdc/tests/it/b.rs", planted), Vec::<String>::new(), "tests plant differences");
        assert_eq!(broken("crates/payments/src/c.rs", text).len(), 2);
    }

    #[test]
    fn another_ones_tables_are_found() {
        let planted = [
            "fn a(tx: &Tx) { tx.query(\"SELECT id FROM partner\"); }",
            "const Q: &str = \"SELECT id FROM payout p JOIN posting ON p.id = posting.id\";",
            "const Q: &str = concat!(\"SELECT id \", \"FROM partner\");",
            "const Q: &str = r#\"select id from payout, partner where 1\"#;",
            "fn a(tx: &mut Tx) { tx.insert(\"posting\", COLUMNS, rows, Refuse); }",
            "const ACCOUNT_TABLE: &'static str = \"posting\";",
            "fn a(tx: &mut Tx) { self.tx.update_many(\"partner\", changes); }",
            "fn a(tx: &mut Tx) { tx.execute(\"UPDATE pub_partner SET id = ?\"); }",
            "fn a(tx: &mut Tx) { tx.execute(&format!(\"DELETE FROM {table}\")); }",
            "fn a(tx: &mut Tx) { tx.query(\"SELECT id FROM outbox_event\"); }",
            "const DDL: &str = \"CREATE TABLE partner (id BLOB)\";",
            "#[cfg(test)] mod tests { const Q: &str = \"SELECT id FROM partner\"; }",
        ];
        for text in planted {
            assert!(!broken("crates/payments/src/a.rs", text).is_empty(), "{text}");
        }
        assert_eq!(broken("crates/reports/migrations/1.sql", "CREATE TABLE partner (id BLOB);").len(), 2);
        assert_eq!(broken("crates/web/src/a.rs", planted[0]).len(), 1, "the edge holds no SQL");
    }
}
