//! No two files import each other, and no longer circle of files does: there is an order in which they can be read.
//!
//! This reads the text of the sources. A path such as `super::room::Room` leads to the longest part of it that is a file. If that is a
//! `mod.rs` that only passes the name on (`pub use`), it leads on to the file with the name. A `pub use` in a `mod.rs` is a front door
//! and no import, and `mod x;` is none either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;

use super::{code, root, sources};

/// `["service", "chat"]` for `src/service/chat/mod.rs`.
type Path = Vec<String>;

/// The files of one top-level folder; between folders, `arrows_point_down_only` is the rule.
struct Folder {
    code: BTreeMap<Path, String>,
    /// What a `mod.rs` passes on: the path of the name there, and the path that it leads to.
    doors: BTreeMap<Path, Path>,
}

impl Folder {
    fn read(name: &str) -> Folder {
        let src = root().join("src");
        let mut folder = Folder { code: BTreeMap::new(), doors: BTreeMap::new() };
        for file in sources(&src.join(name)) {
            let inside = file.strip_prefix(&src).expect("it was found there").with_extension("");
            let mut path: Path = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            path.pop_if(|last| last == "mod");
            folder.code.insert(path, code(&file));
        }
        let doors: Vec<_> = folder.code.iter().flat_map(|(path, code)| folder.doors_of(path, code)).collect();
        folder.doors.extend(doors);
        folder
    }

    fn doors_of(&self, path: &Path, code: &str) -> Vec<(Path, Path)> {
        let passed_on = uses(code).into_iter().filter(|(is_public, _)| *is_public).map(|(_, text)| text);
        let door = |text: String| {
            let to = self.absolute(path, &text)?;
            let name = to.last()?.clone();
            Some(([&path[..], &[name]].concat(), to))
        };
        passed_on.filter_map(door).collect()
    }

    /// The whole path of what `text` names in this file; `None` if that is not ours.
    fn absolute(&self, file: &Path, text: &str) -> Option<Path> {
        let mut words = text.split("::").map(str::to_owned).peekable();
        let mut path = match words.peek()?.as_str() {
            "crate" => words.next().map(|_| Path::new())?,
            "self" => words.next().map(|_| file.clone())?,
            "super" => file.clone(),
            child => {
                let module = [&file[..], &[child.to_owned()]].concat();
                return self
                    .code
                    .contains_key(&module)
                    .then(|| [&file[..], &words.collect::<Path>()].concat());
            }
        };
        while words.next_if(|word| word == "super").is_some() {
            path.pop();
        }
        path.extend(words);
        Some(path)
    }

    /// The file to which a path leads.
    fn file(&self, path: &[String]) -> Option<Path> {
        let file =
            (1..=path.len()).rev().map(|len| &path[..len]).find(|part| self.code.contains_key(*part))?;
        let item = &path[..path.len().min(file.len() + 1)];
        match self.doors.get(item) {
            Some(to) if to != item => self.file(to),
            _ => Some(file.to_vec()),
        }
    }

    /// The other files that a file imports, and the names that it imports from each.
    fn imports(&self, file: &Path) -> BTreeMap<Path, BTreeSet<String>> {
        let code = &self.code[file];
        let is_front = root().join("src").join(file.join("/")).is_dir();
        let uses = uses(code).into_iter().filter(|(is_public, _)| !(is_front && *is_public));
        let children =
            self.code.keys().filter(|path| path.split_last().is_some_and(|(_, above)| above == file));
        let starts = children.filter_map(|path| path.last().cloned()).chain(["crate".into(), "super".into()]);
        let named = uses.map(|(_, text)| text).chain(starts.flat_map(|start| in_code(code, &start)));
        let mut imports: BTreeMap<Path, BTreeSet<String>> = BTreeMap::new();
        for text in named {
            let found = self.absolute(file, &text).and_then(|path| self.file(&path));
            if let Some(other) = found.filter(|other| other != file) {
                imports.entry(other).or_default().insert(text);
            }
        }
        imports
    }

    /// The shortest circles of imports, each once.
    fn circles(&self) -> Vec<String> {
        let imports: BTreeMap<&Path, _> = self.code.keys().map(|file| (file, self.imports(file))).collect();
        let mut circles = BTreeMap::new();
        for start in self.code.keys() {
            let mut ways: VecDeque<Vec<&Path>> = VecDeque::from([vec![start]]);
            let mut seen = BTreeSet::new();
            while let Some(way) = ways.pop_front() {
                let last = way[way.len() - 1];
                if imports[last].contains_key(start) {
                    let members: BTreeSet<&Path> = way.iter().copied().collect();
                    circles.entry(members).or_insert(way);
                    break;
                }
                let next = imports[last].keys().filter(|file| seen.insert(*file));
                ways.extend(next.map(|file| [&way[..], &[file]].concat()));
            }
        }
        let shown = |way: &Vec<&Path>| {
            let steps = way.iter().zip(way.iter().cycle().skip(1));
            let step = |(from, to): (&&Path, &&Path)| {
                let names: Vec<&str> = imports[*from][*to].iter().map(String::as_str).collect();
                format!("{} imports {} from {}", from.join("/"), names.join(", "), to.join("/"))
            };
            steps.map(step).collect::<Vec<_>>().join("; ")
        };
        circles.values().map(shown).collect()
    }
}

/// The paths that the `use` statements of a file name, one for each leaf, and whether they are passed on.
fn uses(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim_start();
        // Not the end of another word, as in `pub enum Pause {`.
        let is_public = line == "pub " || line.starts_with("pub(") && line.ends_with(") ");
        if line.is_empty() || is_public {
            let statement = code[at + 4..].split(';').next().unwrap_or_default();
            let tree = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            found.extend(leaves(&tree).into_iter().map(|leaf| (is_public, leaf)));
        }
    }
    found
}

/// `a::{b, c::{D, E as F}}` is `a::b`, `a::c::D` and `a::c::E`.
fn leaves(tree: &str) -> Vec<String> {
    let Some(open) = tree.find('{') else {
        let leaf = tree.split(" as ").next().unwrap_or_default().trim().trim_end_matches("::self");
        return if leaf.is_empty() { Vec::new() } else { vec![leaf.to_owned()] };
    };
    let (stem, inner) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())]);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for sign in inner.chars() {
        depth += i32::from(sign == '{') - i32::from(sign == '}');
        match (sign, depth) {
            (',', 0) => parts.push(String::new()),
            _ => parts.last_mut().expect("there is one").push(sign),
        }
    }
    parts
        .iter()
        .map(|part| part.trim())
        .filter(|part| !part.is_empty())
        .flat_map(|part| leaves(&format!("{stem}{part}")))
        .collect()
}

/// The paths in a file's code that begin with this word.
fn in_code(code: &str, start: &str) -> Vec<String> {
    let is_of_name = |sign: char| sign.is_alphanumeric() || sign == '_';
    code.match_indices(&format!("{start}::"))
        .filter(|(at, _)| !code[..*at].ends_with(|sign: char| is_of_name(sign) || sign == ':'))
        .filter(|(at, _)| !code[..*at].ends_with("(in ")) // `pub(in crate::service)` is no import
        .map(|(at, _)| {
            code[at..].chars().take_while(|sign| is_of_name(*sign) || *sign == ':').collect::<String>()
        })
        .filter(|text| !text.ends_with(':')) // a tree: see `uses`
        .collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let folders = fs::read_dir(root().join("src")).expect("the sources").filter_map(Result::ok);
    let folders = folders.filter(|entry| entry.path().is_dir());
    let names: BTreeSet<String> = folders.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    let circles: Vec<String> = names.iter().flat_map(|name| Folder::read(name).circles()).collect();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn use_trees_are_taken_apart() {
    assert_eq!(leaves("a::{b, c::{D, E as F}, self}"), ["a::b", "a::c::D", "a::c::E", "a"]);
    let code =
        "use super::x;\npub use y::{A,\n    B};\npub enum Pause { No }\nlet z = super::w::f(crate::v);";
    let expected = [(false, "super::x"), (true, "y::A"), (true, "y::B")];
    assert_eq!(uses(code), expected.map(|(is_public, text)| (is_public, text.to_owned())));
    assert_eq!(in_code(code, "super"), ["super::x", "super::w::f"]);
}
