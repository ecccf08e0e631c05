//! Files that can be read in one sitting. Functions are clippy's business (`too-many-lines-threshold`).

use super::{Report, repository::Repository, source::Source};
use anyhow::Result;

const LINES_AIM: usize = 400;
const LINES_MAX: usize = 800;

pub(super) fn check(repository: &Repository) -> Result<Report> {
    let mut broken = Vec::new();
    let mut long = Vec::new();
    let mut files = 0;
    for file in &repository.files {
        let Some(source) = &file.source else { continue };
        files += 1;
        let lines = file.text.lines().count() - lines_of_tests(source);
        if lines > LINES_MAX {
            broken.push(format!("{}: {lines} lines without its tests; {LINES_MAX} is the limit", file.path));
        } else if lines > LINES_AIM {
            long.push(format!("{} ({lines})", file.path));
        }
    }
    let notes = match long.is_empty() {
        true => Vec::new(),
        false => vec![format!("{} files are over the aim of {LINES_AIM} lines: {}", long.len(), long.join(", "))],
    };
    Ok(Report {
        rule: "files end before line 800, their tests apart",
        looked_at: format!("{files} files"),
        broken,
        notes,
    })
}

fn lines_of_tests(source: &Source) -> usize {
    let lines: std::collections::BTreeSet<usize> =
        source.tokens.iter().filter(|token| token.in_test).map(|token| token.line).collect();
    match (lines.first(), lines.last()) {
        (Some(first), Some(last)) => last - first + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(code: usize, tests: usize) -> Report {
        let text =
            format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "fn a() {}\n".repeat(code), "fn b() {}\n".repeat(tests));
        check(&Repository::planted(&[("crates/web/src/a.rs", &text)])).unwrap()
    }

    #[test]
    fn code_counts_and_tests_do_not() {
        assert_eq!(report(800, 900).broken.len(), 0);
        assert_eq!(report(801, 0).broken.len(), 1);
        assert_eq!((report(400, 9).notes.len(), report(401, 9).notes.len()), (0, 1));
    }
}
