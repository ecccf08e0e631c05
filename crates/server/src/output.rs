//! What people and programs read: tables for a terminal, one JSON document for a program. Colours only on a terminal.

use std::io::IsTerminal as _;

/// Prints a line to standard output; ends the process quietly when nobody reads it any more (`alpes … | head`).
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        if writeln!(std::io::stdout(), $($part)*).is_err() {
            std::process::exit(0);
        }
    }};
}
pub(crate) use say;

/// A table with a heading per column; numbers are right-aligned.
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl ToString>) {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    /// Prints it to standard output.
    pub(crate) fn print(&self) {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.headings[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let numeric: Vec<bool> = (0..self.headings.len())
            .map(|column| {
                let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
                !self.rows.is_empty() && self.rows.iter().all(|row| number(&row[column]))
            })
            .collect();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).zip(&numeric).map(|((cell, &width), &right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
        };
        say!("{}", faint(&line(&self.headings)));
        for row in &self.rows {
            say!("{}", line(row));
        }
    }
}

fn painted(text: &str, code: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A heading.
pub(crate) fn bold(text: &str) -> String {
    painted(text, "1")
}

/// Something less important.
pub(crate) fn faint(text: &str) -> String {
    painted(text, "2")
}

/// Something that is as it should be.
pub(crate) fn good(text: &str) -> String {
    painted(text, "32")
}

/// Something that is not.
pub(crate) fn bad(text: &str) -> String {
    painted(text, "31")
}

/// Prints a document for programs.
pub(crate) fn json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}

/// Minor units of two decimals, for people: `1234` is `12.34`.
pub(crate) fn amount(minor: i64) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", minor.unsigned_abs() / 100, minor.unsigned_abs() % 100)
}
