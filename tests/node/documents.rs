//! What the documents say is so: links lead somewhere, commands are understood, the NIPs are those
//! that the relay names, and nothing is longer than CONTRIBUTING.md allows.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common::rookery;
use rookery::net::SUPPORTED_NIPS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Our Markdown files: those at the top and under `docs/`, and what the parts are like in detail.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [root().to_owned(), root().join("docs"), root().join("docs/design")] {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        found.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    assert!(found.len() > 5, "{found:?}");
    found
}

/// Splits into the lines of fenced code in that language, and all lines that are no code.
fn split<'a>(text: &'a str, language: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut code, mut prose) = (Vec::new(), Vec::new());
    let mut fence = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), fence) {
            (Some(named), None) => fence = Some(named),
            (Some(_), Some(_)) => fence = None,
            (None, Some(named)) if named == language => code.push(line.trim()),
            (None, Some(_)) => {}
            (None, None) => prose.push(line),
        }
    }
    (code, prose)
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// What a heading is called in a link, by the rule of GitHub.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(document: &Path) -> BTreeSet<String> {
    let text = read(document);
    let (_, prose) = split(&text, "");
    let headings = prose.iter().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        for target in split(&text, "").1.into_iter().flat_map(links) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let is_there = path.exists() && (heading.is_empty() || anchors(&path).contains(heading));
            if !is_there {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The words of the first command of a shell line, quotes taken off. What the shell would put in
/// stands as `1`, which does for numbers and texts.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let word = words.last_mut().unwrap();
        match (character, quote) {
            ('\'' | '"', None) => quote = Some(character),
            (character, Some(open)) if character == open => quote = None,
            ('$', _) if characters.peek() == Some(&'(') => {
                characters.by_ref().find(|&character| character == ')');
                word.push('1');
            }
            ('$', _) if characters.next_if_eq(&'!').is_some() => word.push('1'),
            ('2', None) if characters.peek() == Some(&'>') => break,
            ('|' | '>' | '<' | '&' | ';' | '#', None) => break,
            (' ', None) => words.push(String::new()),
            (character, _) => word.push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn commands_are_understood() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for document in documents() {
        let text = read(&document);
        for line in split(&text, "sh").0 {
            let words = words(line);
            let (Some("rookery"), arguments) = (words.first().map(String::as_str), &words[1..]) else {
                continue;
            };
            // Flags are read in order, so what stands before --help is checked and nothing is run.
            let output = rookery(&[]).args(arguments).arg("--help").output().unwrap();
            checked += 1;
            if !output.status.success() {
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                wrong.push(format!("{}: {line}: {error}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 10, "only {checked} commands were found");
}

#[test]
fn the_nips_are_those_that_the_relay_names() {
    let text = read("README.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| [")?.split(']').next()?.parse().ok());
    assert_eq!(rows.collect::<Vec<u16>>(), SUPPORTED_NIPS);
}

/// What looks like the name of a metric, wherever it stands.
fn metric_names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("rookery_") || word.starts_with("process_"))
}

#[test]
fn metrics_that_are_named_are_there() {
    let reference = read("docs/metrics.md");
    let known: BTreeSet<&str> = metric_names(&reference).collect();
    let mut files = documents();
    let others = ["cluster/kubernetes/rookery.yaml", "cluster/alerts.yml", "cluster/alerts.test.yml"];
    files.extend(others.map(PathBuf::from));
    let dashboards = fs::read_dir(root().join("grafana/dashboards")).unwrap();
    files.extend(dashboards.map(|entry| entry.unwrap().path()));
    let mut unknown = Vec::new();
    for file in files {
        let text = read(&file);
        let base = |name: &str| {
            let suffix = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            suffix.unwrap_or(name).to_owned()
        };
        let strange = metric_names(&text).filter(|name| !known.contains(&*base(name)));
        unknown.extend(strange.map(|name| format!("{}: {name}", file.display())));
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn lines_are_no_longer_than_they_may_be() {
    const LONGEST: usize = 120;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let (_, prose) = split(&text, "");
        // A row of a table is one line.
        let long: Vec<_> =
            prose.iter().filter(|line| !line.starts_with('|') && line.chars().count() > LONGEST).collect();
        assert!(long.is_empty(), "{}: {long:#?}", path.display());
    }
}

/// The files below a folder that people write, and no others.
fn written(folder: &Path, found: &mut Vec<PathBuf>) {
    const BUILT: [&str; 4] = ["built", "node_modules", "target", "corpus"];
    const ENDINGS: [&str; 6] = ["rs", "ts", "tsx", "mjs", "css", "sh"];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !BUILT.contains(&name) {
            written(&path, found);
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|own| ending == *own)) {
            found.push(path);
        }
    }
}

#[test]
fn files_are_no_longer_than_they_may_be() {
    const MOST: usize = 400;
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "fuzz", "web", "cluster"] {
        written(&root().join(folder), &mut files);
    }
    assert!(files.len() > 300, "{}", files.len());
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<_> = files
        .iter()
        .map(|path| (path.display().to_string(), lines(path)))
        .filter(|(_, n)| *n > MOST)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
