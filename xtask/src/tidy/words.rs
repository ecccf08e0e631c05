//! What must not stand in the repository: unfinished code, silenced checks, places of somebody's own machine.

use super::source::{Kind, Source};
use super::{Report, repository::Repository};
use anyhow::Result;

/// Unfinished or silenced code.
pub(super) fn code(repository: &Repository) -> Result<Report> {
    let mut broken = Vec::new();
    let mut files = 0;
    for file in &repository.files {
        let Some(source) = &file.source else { continue };
        files += 1;
        for (line, what) in unfinished(source) {
            broken.push(format!("{}:{line}: {what}", file.path));
        }
    }
    Ok(Report {
        rule: "nothing is left undone or switched off",
        looked_at: format!("{files} files"),
        broken,
        notes: Vec::new(),
    })
}

fn unfinished(source: &Source) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        let Kind::Word(word) = &token.kind else { continue };
        let is_macro = source.reads(at + 1, &["!"]) && !source.reads(at + 2, &["="]);
        match word.as_str() {
            "todo" if is_macro => found.push((token.line, "todo!: finish it")),
            "unimplemented" if is_macro => found.push((token.line, "unimplemented!: finish it")),
            "ignore" if token.in_attribute && !source.reads(at + 1, &["("]) => {
                found.push((token.line, "#[ignore]: a test that does not run proves nothing"));
            }
            "allow" if token.in_attribute && source.reads(at + 1, &["("]) => {
                found.push((
                    token.line,
                    "#[allow]: say #[expect(…, reason = \"…\")], which complains when it is needless",
                ));
            }
            _ => {}
        }
    }
    found
}

/// Places of one machine: absolute paths of a person's or a build's folders, hosts of package registries.
pub(super) fn places(repository: &Repository) -> Result<Report> {
    let mut broken = Vec::new();
    for file in &repository.files {
        for (line, text) in (1..).zip(file.text.lines()) {
            // cargo writes this into every lock file; it is a name and not a place that is asked
            let text = text.replace("registry+https://github.com/rust-lang/crates.io-index", "");
            for place in machine_places().iter().filter(|place| text.contains(place.as_str())) {
                broken.push(format!("{}:{line}: names {place}", file.path));
            }
        }
    }
    Ok(Report {
        rule: "no machine's paths, no registry's host",
        looked_at: format!("{} files", repository.files.len()),
        broken,
        notes: Vec::new(),
    })
}

/// Put together here, so that this file does not name them.
fn machine_places() -> Vec<String> {
    let folders = ["home", "root", "work", "Users"].map(|folder| format!("/{folder}/"));
    let hosts = [
        ["crates", "io"],
        ["pypi", "org"],
        ["pythonhosted", "org"],
        ["npmjs", "org"],
        ["npmjs", "com"],
        ["deb.debian", "org"],
        ["security.debian", "org"],
        ["docker", "io"],
        ["repo1.maven", "org"],
        ["proxy.golang", "org"],
    ];
    folders.into_iter().chain(hosts.map(|parts| parts.join("."))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_and_silenced_code_is_found_and_prose_is_not() {
        let count = |text: &str| code(&Repository::planted(&[("crates/web/src/a.rs", text)])).unwrap().broken.len();
        let planted = [
            "fn a() { todo!() }",
            "fn a() { unimplemented!(\"later\") }",
            "#[ignore] fn a() {}",
            "#[ignore = \"slow\"] fn a() {}",
            "#[allow(dead_code)] fn a() {}",
            "#![allow(dead_code)]",
            "#[cfg_attr(test, allow(dead_code))] fn a() {}",
            "#[cfg_attr(debug, ignore)] fn a() {}",
        ];
        for text in planted {
            assert_eq!(count(text), 1, "{text}");
        }
        let fine = "/// todo! #[allow(x)]\n#[expect(x, reason = \"no allow(x)\")]\nfn a() { if todo != 1 { allow(2); ignore; } }";
        assert_eq!(count(fine), 0);
    }

    #[test]
    fn places_of_one_machine_are_found_in_any_file() {
        let count = |text: &str| places(&Repository::planted(&[("docs/a.md", text)])).unwrap().broken.len();
        for place in machine_places() {
            assert_eq!(count(&format!("see\n{place}x")), 1, "{place}");
        }
        assert_eq!(count("source = \"registry+https://github.com/rust-lang/crates.io-index\""), 0);
        assert_eq!(count("put it into ./alpes-data or /var/lib/alpes"), 0);
    }
}
