//! `docs/ARCHITECTURE.md` against the repository: the map of crates, and the names by which its walks call the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What the names of our packages begin with.
const PREFIX: &str = "eventodb-";

/// `(crate, what it depends on)`, both by their folders.
type Arrow = (String, String);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is a member of the workspace").to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page is there")
}

/// The arrows of the map, which is the first block of the page: `a <- b, c` says that b and c depend on a.
fn mapped() -> BTreeSet<Arrow> {
    let page = page();
    let map = page.split("```").nth(1).expect("a block");
    let names = |part: &str| -> Vec<String> {
        let part = part.split('(').next().unwrap_or_default();
        part.split([',', ' ']).filter(|name| !name.is_empty() && !is_prose(name)).map(str::to_owned).collect()
    };
    let mut arrows = BTreeSet::new();
    for line in map.lines() {
        let parts: Vec<&str> = line.split("<-").collect();
        for pair in parts.windows(2) {
            for to in names(pair[0]) {
                arrows.extend(names(pair[1]).into_iter().map(|from| (from, to.clone())));
            }
        }
    }
    arrows
}

/// Words between the names of a line.
fn is_prose(word: &str) -> bool {
    ["and", "the", "tests", "of"].contains(&word)
}

/// The dependencies between our crates, those of tests apart.
fn declared() -> BTreeSet<Arrow> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("metadata is JSON");
    let folder = |package: &Value| {
        let name = package["name"].as_str().expect("a name");
        name.strip_prefix(PREFIX).unwrap_or("cli").to_owned()
    };
    let mut arrows = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let ours = dependencies.filter(|dependency| dependency["kind"].is_null());
        let ours = ours.filter_map(|dependency| dependency["name"].as_str()?.strip_prefix(PREFIX));
        arrows.extend(ours.map(|name| (folder(package), name.to_owned())));
    }
    arrows
}

/// Whether one crate reaches another along arrows.
fn reaches(arrows: &BTreeSet<Arrow>, from: &str, to: &str) -> bool {
    arrows.iter().filter(|arrow| arrow.0 == from).any(|arrow| arrow.1 == to || reaches(arrows, &arrow.1, to))
}

/// Whether a comment has an example that rustdoc would run.
fn has_example(text: &str) -> bool {
    let comments = text.lines().map(str::trim_start).filter(|line| line.starts_with("///") || line.starts_with("//!"));
    let fences = comments.filter_map(|line| line[3..].trim_start().strip_prefix("```"));
    fences.step_by(2).any(|language| language != "text")
}

/// Rustdoc is not started for crates without examples, because it would compile each of them once more.
#[test]
fn no_example_in_a_comment_is_left_unrun() {
    for (path, text) in sources() {
        let folder = path.strip_prefix(root()).expect("it is below").iter().next().expect("it has a folder");
        let manifest = root().join(folder).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("a crate has one");
        let is_left_out = manifest.contains("doctest = false") && has_example(&text);
        assert!(!is_left_out, "{} has an example: let its crate have doctests", path.display());
    }
}

#[test]
fn the_map_of_crates_is_that_of_cargo() {
    let (mapped, declared) = (mapped(), declared());
    for arrow in mapped.iter().filter(|arrow| arrow.1 != "testing") {
        assert!(declared.contains(arrow), "{} does not depend on {}", arrow.0, arrow.1);
    }
    for (from, to) in &declared {
        assert!(reaches(&mapped, from, to), "the map does not say that {from} depends on {to}");
    }
}

/// All Rust code of the workspace's crates: the path of each file, and its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root())
        .expect("the repository can be read")
        .filter_map(|entry| Some(entry.ok()?.path().join("src")))
        .filter(|folder| folder.is_dir())
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path, text));
            }
        }
    }
    found
}

/// Whether a file is the module of this name.
fn is_module(path: &Path, name: &str) -> bool {
    let path = path.with_extension("");
    path.ends_with(name) || path.ends_with(Path::new(name).join("mod"))
}

/// Whether the code has a type, a function or a module of this name, such as `Log::append` or `rpc::receive`.
fn resolves(sources: &[(PathBuf, String)], name: &str) -> bool {
    let (owner, last) = name.rsplit_once("::").unwrap_or(("", name));
    let owner = owner.rsplit("::").next().unwrap_or_default();
    let is_type = |name: &str| name.starts_with(char::is_uppercase);
    let declares = |text: &str, name: &str| {
        ["struct", "enum", "trait", "fn"].iter().any(|kind| {
            let declaration = format!("{kind} {name}");
            text.match_indices(&declaration).any(|(at, _)| {
                !text[at + declaration.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        })
    };
    sources.iter().any(|(path, text)| match owner {
        "" => is_module(path, last) || declares(text, last),
        owner if is_type(owner) => text.contains(owner) && declares(text, last),
        owner => {
            let is_inside = |folder: &str| is_module(path, &format!("{owner}{folder}/{last}"));
            is_inside("") || is_inside("/src") || (is_module(path, owner) && declares(text, last))
        }
    })
}

#[test]
fn each_step_of_the_walks_has_the_name_that_the_code_gives_it() {
    let (page, sources) = (page(), sources());
    let walks = page.split("\n## ").filter(|part| part.starts_with("The walk of"));
    let mut looked_up = 0;
    for walk in walks {
        for name in walk.split('`').skip(1).step_by(2) {
            let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':') && !name.starts_with(':');
            if is_name && (name.contains("::") || name.starts_with(char::is_uppercase)) {
                assert!(resolves(&sources, name), "the code has nothing called {name}");
                looked_up += 1;
            }
        }
    }
    assert!(looked_up > 20, "{looked_up} names");
}
