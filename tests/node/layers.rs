//! The order of the parts, which stands in `src/lib.rs`: no part imports from one above it or beside it, and no two
//! files of a part import from each other, directly or over others.
//!
//! A module and the modules within it are one thing here: `persist/mod.rs` and `persist/queue.rs` may know each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A module's place, such as `["store", "lmdb"]`; none: the library itself.
type Place = Vec<String>;

/// The files of a crate and what they import, each by its place.
#[derive(Default)]
struct Source {
    files: BTreeMap<Place, String>,
    /// What a module hands on of others: its name there, and where that comes from.
    handed_on: BTreeMap<Place, BTreeMap<String, Place>>,
}

impl Source {
    fn read(folder: &Path) -> Self {
        let mut source = Self::default();
        source.add(folder, &[]);
        for (place, text) in &source.files {
            let names = source.handed_on.entry(place.clone()).or_default();
            for path in text.split("pub use ").skip(1).flat_map(|rest| paths(statement(rest))) {
                if let Some(name) = path.last() {
                    names.insert(name.clone(), path.clone());
                }
            }
        }
        source
    }

    fn add(&mut self, folder: &Path, place: &[String]) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let within: Place = place.iter().cloned().chain([name.clone()]).collect();
            if path.is_dir() {
                self.add(&path, &within);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let place = if ["mod", "lib"].contains(&&*name) { place.to_vec() } else { within };
                self.files.insert(place, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }

    /// The file that a path leads to, as seen from a module.
    fn file(&self, from: &[String], path: &[String]) -> Option<Place> {
        let (mut at, mut rest): (Place, &[String]) = match path.split_first()? {
            (first, rest) if first == "crate" => (Vec::new(), rest),
            (first, rest) if first == "self" => (from.to_vec(), rest),
            (first, _) if first == "super" => (from.to_vec(), path),
            (first, _) if self.files.contains_key(&[from, std::slice::from_ref(first)].concat()) => {
                (from.to_vec(), path)
            }
            _ => return None,
        };
        while let Some((next, others)) = rest.split_first() {
            let within = [&at[..], std::slice::from_ref(next)].concat();
            if next == "super" {
                at.pop();
            } else if self.files.contains_key(&within) {
                at = within;
            } else {
                let further = self.handed_on.get(&at).and_then(|names| names.get(next));
                // A module may name what it hands on as it names what it has itself.
                let further = further.and_then(|path| self.file(&at, path)).filter(|place| *place != at);
                return Some(further.unwrap_or(at));
            }
            rest = others;
        }
        Some(at)
    }

    /// The files that each file imports from.
    fn imports(&self) -> BTreeMap<Place, BTreeSet<Place>> {
        let of_file = |(place, text): (&Place, &String)| {
            let used = text.split("use ").skip(1).flat_map(|rest| paths(statement(rest)));
            let named = text.split("crate::").skip(1).flat_map(|rest| {
                let end =
                    rest.find(|c: char| c != ':' && c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                paths(&format!("crate::{}", rest[..end].trim_end_matches(':')))
            });
            let files = used.chain(named).filter_map(|path| self.file(place, &path));
            (place.clone(), files.filter(|other| other != place).collect())
        };
        self.files.iter().map(of_file).collect()
    }
}

/// What is not commented out and not for tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn statement(rest: &str) -> &str {
    rest.split(';').next().unwrap()
}

/// The single paths of `a::{b, c::{d, e as f}}`.
fn paths(tree: &str) -> Vec<Place> {
    let tree = tree.trim();
    let Some((stem, branches)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        return vec![
            path.split("::").map(|part| part.trim().to_owned()).filter(|part| part != "*").collect(),
        ];
    };
    let stem: Place =
        stem.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let (mut all, mut depth, mut branch) = (Vec::new(), 0, String::new());
    for c in branches.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth < 0 || (c == ',' && depth == 0) {
            if !branch.trim().is_empty() {
                all.extend(paths(&branch).into_iter().map(|path| [&stem[..], &path].concat()));
            }
            branch.clear();
            if depth < 0 {
                break;
            }
        } else {
            branch.push(c);
        }
    }
    all
}

/// The layers, the highest first, as the text of the library has them.
fn layers(library: &str) -> Vec<Vec<&str>> {
    let drawn = library.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).unwrap();
    drawn.lines().map(|line| line.trim_start_matches("//!").split_whitespace().collect()).collect()
}

fn imports_upwards(source: &Source, layers: &[Vec<&str>]) -> Vec<String> {
    let height = |part: &str| layers.iter().position(|layer| layer.contains(&part));
    let mut wrong = Vec::new();
    for (file, others) in source.imports() {
        // The library itself, and the program, which only calls it.
        let Some(part) = file.first().filter(|part| *part != "main") else { continue };
        let Some(own) = height(part) else {
            wrong.push(format!("{part} is in no layer"));
            continue;
        };
        let above = |other: &&Place| {
            other
                .first()
                .is_some_and(|other| other != part && height(other).is_none_or(|theirs| theirs <= own))
        };
        wrong.extend(
            others
                .iter()
                .filter(above)
                .map(|other| format!("{} imports {}", file.join("/"), other.join("/"))),
        );
    }
    wrong.dedup();
    wrong
}

/// Files that import from each other, over however many others.
fn circles(source: &Source) -> Vec<String> {
    let mut imports = source.imports();
    let is_within = |a: &Place, b: &Place| a.starts_with(b) || b.starts_with(a);
    for (file, others) in &mut imports {
        others.retain(|other| !is_within(file, other));
    }
    let reach = |from: &Place| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = left.pop() {
            let new = imports.get(&file).into_iter().flatten().filter(|other| seen.insert((*other).clone()));
            left.extend(new.cloned().collect::<Vec<_>>());
        }
        seen
    };
    let reached: BTreeMap<&Place, BTreeSet<Place>> = imports.keys().map(|file| (file, reach(file))).collect();
    let in_circle = |a: &Place, b: &Place| reached[a].contains(b) && reached[b].contains(a);
    let pairs = imports.iter().flat_map(|(file, others)| others.iter().map(move |other| (file, other)));
    pairs
        .filter(|(a, b)| in_circle(a, b))
        .map(|(a, b)| format!("{} imports {}", a.join("/"), b.join("/")))
        .collect()
}

#[test]
fn no_part_imports_upwards_and_no_files_import_each_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let library = fs::read_to_string(folder.join("lib.rs")).unwrap();
    let source = Source::read(&folder);
    assert_eq!(imports_upwards(&source, &layers(&library)), Vec::<String>::new());
    assert_eq!(circles(&source), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_found() {
    let folder = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "//! ```text\n//! top\n//! left right\n//! ```\npub mod top;");
    write("top/mod.rs", "pub use self::a::{self, Name};\nuse crate::left::Thing;");
    write("top/a.rs", "use super::{b};\nuse crate::{right};");
    write("top/b.rs", "use super::Name;");
    write("left.rs", "fn f() { crate::right::g() }");
    write(
        "right.rs",
        "// use crate::top::Name;\nuse crate::{top::{Name as Other}};\n#[cfg(test)]\nmod tests { use crate::left; }",
    );
    let source = Source::read(folder.path());
    let library = fs::read_to_string(folder.path().join("lib.rs")).unwrap();
    assert_eq!(imports_upwards(&source, &layers(&library)), ["left imports right", "right imports top/a"]);
    let circle = ["right imports top/a", "top/a imports right", "top/a imports top/b", "top/b imports top/a"];
    assert_eq!(circles(&source), circle);
}
