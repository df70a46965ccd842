//! The docs against themselves and the tree: links, the README's length, the words that CONTRIBUTING.md lists, configuration
//! keys. They are tests of the whole tree; they are in this crate because it is built last and needs no privileges.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Links to files that are not part of the book begin with this, so that they work in the book as well.
const ON_GITHUB: &str = "https://github.com/cvmfs-prefetch/cvmfs-prefetch/blob/main/";
/// Folders with sources that are checked for words to avoid.
const CHECKED_SOURCES: [&str; 12] = [
    "api",
    "bench",
    "bundles",
    "cli",
    "deploy",
    "node",
    "prefetcher",
    "scripts",
    "snapshotter",
    "testbed",
    "tests",
    "tracer-ebpf",
];
/// What a reader takes in at one sitting; everything else belongs into the book.
const README_MAX_LINES: usize = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below `directory` with one of these extensions, except build output and binary test data.
fn files(directory: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "book", "corpus", "artifacts"].contains(&name.as_str()) {
                files(&path, extensions, found);
            }
        } else if extensions.iter().any(|extension| name == *extension || name.ends_with(&format!(".{extension}"))) {
            found.push(path);
        }
    }
}

/// The book's pages and the documents in the root.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    files(&root().join("docs/src"), &["md"], &mut pages);
    pages.extend(fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()));
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// A page without its code blocks.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    let mut in_code = false;
    let is_prose = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    };
    text.lines().filter(is_prose).collect::<Vec<_>>().join("\n")
}

/// The anchors of a page's headings, as GitHub and mdBook form them.
fn anchors(page: &Path) -> BTreeSet<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
    };
    prose(page).lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The targets of a page's links and images.
fn links(page: &Path) -> Vec<String> {
    let text = prose(page);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn no_link_is_dead() {
    let mut dead = Vec::new();
    for page in pages() {
        for link in links(&page) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path.strip_prefix(ON_GITHUB) {
                Some(path) => root().join(path),
                None if path.contains("://") => continue,
                None if path.is_empty() => page.clone(),
                None => page.parent().unwrap().join(path),
            };
            if !target.exists() || !(anchor.is_empty() || anchors(&target).contains(anchor)) {
                dead.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn pages_of_the_book_link_only_to_pages_of_the_book() {
    let book = root().join("docs/src").canonicalize().unwrap();
    for page in pages().into_iter().filter(|page| page.starts_with(root().join("docs/src"))) {
        for link in links(&page).into_iter().filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = page.parent().unwrap().join(link.split('#').next().unwrap()).canonicalize().unwrap();
            assert!(target.starts_with(&book), "{}: {link} is not in the book: link to {ON_GITHUB}", page.display());
        }
    }
}

#[test]
fn the_summary_lists_every_page_once() {
    let book = root().join("docs/src");
    let listed: Vec<_> = links(&book.join("SUMMARY.md")).into_iter().map(|link| book.join(link)).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    let pages = pages().into_iter().filter(|page| page.starts_with(&book) && !page.ends_with("SUMMARY.md"));
    assert_eq!(unique, pages.collect());
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_MAX_LINES, "README.md has {lines} lines, at most {README_MAX_LINES}");
}

/// The first column of the table of words to avoid.
fn words_to_avoid() -> Vec<String> {
    let rules = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let (_, rest) = rules.split_once("<!-- forbidden: begin -->").unwrap();
    let (table, _) = rest.split_once("<!-- forbidden: end -->").unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.split('|').nth(1).unwrap().trim().to_lowercase()).collect()
}

/// Lower case, one space between words, without the marks of comments and quotations at the begin of lines: so that phrases
/// are found across lines.
fn normalized(text: &str) -> String {
    let marks = |c: char| c.is_whitespace() || "/!#*>".contains(c);
    text.lines()
        .flat_map(|line| line.trim_start_matches(marks).split_whitespace())
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

/// Whether `phrase` is in `text`, not as a part of longer words.
fn contains_phrase(text: &str, phrase: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(phrase)
        .any(|(at, _)| !is_word(text[..at].chars().next_back()) && !is_word(text[at + phrase.len()..].chars().next()))
}

#[test]
fn words_to_avoid_are_avoided() {
    let words = words_to_avoid();
    assert!(words.len() > 10);
    let mut checked = pages();
    for folder in CHECKED_SOURCES {
        files(&root().join(folder), &["rs", "proto", "toml", "c", "h", "sh", "service", "env"], &mut checked);
    }
    // This file has phrases to test the search with.
    checked.retain(|path| !path.ends_with("cli/tests/docs.rs"));
    let mut found = Vec::new();
    for file in checked {
        let mut text = fs::read_to_string(&file).unwrap();
        // The list itself.
        if let Some((before, rest)) = text.split_once("<!-- forbidden: begin -->") {
            text = format!("{before}{}", rest.split_once("<!-- forbidden: end -->").unwrap().1);
        }
        let text = normalized(&text);
        let here = words.iter().filter(|word| contains_phrase(&text, word));
        found.extend(here.map(|word| format!("{}: {word}", file.strip_prefix(root()).unwrap().display())));
    }
    assert!(found.is_empty(), "words to avoid, see CONTRIBUTING.md:\n{}", found.join("\n"));
}

#[test]
fn phrases_are_found_across_lines_and_as_whole_words() {
    let text = normalized("/// The snapshot, of\n/// which nobody knows.\n// lookups");
    assert!(
        contains_phrase(&text, "of which") && !contains_phrase(&text, "lookup") && contains_phrase(&text, "lookups")
    );
}

/// The keys of one table of an example configuration, commented or not.
fn example_keys(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let keys = lines.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.to_owned());
    keys.filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect()
}

/// The keys in the first column of the tables of a section of configuration.md.
fn documented_keys(section: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/src/configuration.md")).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let rows = rest.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap().to_owned());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_examples_and_the_reference_have_the_same_keys() {
    for daemon in ["prefetchd.toml", "snapshotter.toml"] {
        assert_eq!(documented_keys(daemon), example_keys(&format!("deploy/config/{daemon}")), "{daemon}");
    }
}

/// The messages that sections of troubleshooting.md quote.
fn quoted_messages() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/src/troubleshooting.md")).unwrap();
    let sections = text.split("\n## ").filter(|section| section.starts_with("Messages"));
    let rows = sections.flat_map(|section| section.lines().filter(|line| line.starts_with("| `")));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn the_tests_that_the_threat_model_names_exist() {
    let page = fs::read_to_string(root().join("docs/src/security.md")).unwrap();
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains('/')).collect();
    assert!(named.len() > 20, "{named:?}");
    for path in named {
        assert!(root().join(path).exists(), "docs/src/security.md names {path}");
    }
}

#[test]
fn quoted_messages_are_those_of_the_programs() {
    let mut sources = Vec::new();
    files(&root(), &["rs"], &mut sources);
    let source = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        // A string that goes on in the next line is one message.
        text.split("\\\n").map(str::trim_start).collect::<String>()
    };
    let sources: Vec<_> = sources.iter().filter(|path| !path.ends_with("cli/tests/docs.rs")).map(source).collect();
    let messages = quoted_messages();
    assert!(messages.len() > 10);
    for message in messages {
        let is_known = |part: &str| sources.iter().any(|text| text.contains(part.trim()));
        assert!(message.split("...").all(is_known), "no program prints {message:?}");
    }
}
