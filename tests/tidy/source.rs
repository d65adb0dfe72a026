//! Rust source with its comments and strings taken out, so that a rule about code never fires on words about code.

use std::path::{Path, PathBuf};

/// One file of `src/` or `tests/`.
pub struct Source {
    /// Relative to the package, with forward slashes.
    pub path: String,
    pub text: String,
    /// As `text`, line by line the same, without comments, string contents and test modules.
    pub code: String,
    /// As `code`, but with the contents of strings.
    pub code_and_strings: String,
    /// Modules in files of their own that are declared for tests only.
    test_modules: Vec<String>,
    test: bool,
}

impl Source {
    /// The top-level module: `http` for `src/http/body.rs`, `config` for `src/config.rs`.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs"))
    }

    /// Whether the whole file is there for tests only.
    pub fn is_test(&self) -> bool {
        self.test
    }

    fn new(path: String, text: String) -> Self {
        let (code, code_and_strings) = stripped(&text);
        let tests = test_items(&code);
        let without_tests = |view: &str| {
            let lines = view.split_inclusive('\n').enumerate();
            lines.map(|(n, line)| if tests.iter().any(|range| range.contains(&n)) { "\n" } else { line }).collect()
        };
        let lines: Vec<&str> = code.lines().collect();
        let declared = |line: &&str| Some(line.split_once("mod ")?.1.strip_suffix(';')?.to_owned());
        let test_modules = tests.iter().flat_map(|range| &lines[range.clone()]).filter_map(declared).collect();
        let (test, views) = (path.starts_with("tests/"), (without_tests(&code), without_tests(&code_and_strings)));
        Self { code: views.0, code_and_strings: views.1, test_modules, test, path, text }
    }

    /// The files of the modules that only tests know, without their endings.
    fn test_files(&self) -> Vec<String> {
        let directory = match self.path.strip_suffix("/mod.rs") {
            Some(directory) => directory,
            None if self.path == "src/lib.rs" => "src",
            None => self.path.trim_end_matches(".rs"),
        };
        self.test_modules.iter().map(|name| format!("{directory}/{name}")).collect()
    }
}

/// Every Rust file below these directories.
pub fn all(root: &Path, directories: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for directory in directories {
        for path in files(&root.join(directory)) {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let shown = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.push(Source::new(shown, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let tests: Vec<String> = found.iter().flat_map(Source::test_files).collect();
    for source in &mut found {
        let rest = |test: &String| source.path.strip_prefix(test.as_str()).map(str::to_owned);
        source.test |= tests.iter().filter_map(rest).any(|rest| rest == ".rs" || rest.starts_with('/'));
    }
    found
}

/// Every file below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok);
    let mut files: Vec<_> =
        entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect();
    files.sort();
    files
}

/// Blanks comments in both views and string contents in the first.
fn stripped(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut with_strings) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut at = 0;
    while at < chars.len() {
        let (length, kind) = token(&chars[at..]);
        for c in &chars[at..at + length] {
            let blank = if *c == '\n' { '\n' } else { ' ' };
            code.push(if kind == Kind::Code { *c } else { blank });
            with_strings.push(if kind == Kind::Comment { blank } else { *c });
        }
        at += length;
    }
    (code, with_strings)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// The length and kind of what begins here; code is taken one character (or one word) at a time.
fn token(rest: &[char]) -> (usize, Kind) {
    match rest {
        ['/', '/', ..] => (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), Kind::Comment),
        ['/', '*', ..] => (block_comment(rest), Kind::Comment),
        ['"', ..] => (quoted(rest, 1), Kind::Literal),
        ['b' | 'c', '"', ..] => (quoted(rest, 2), Kind::Literal),
        ['r', '"' | '#', ..] | ['b' | 'c', 'r', '"' | '#', ..] => raw(rest).unwrap_or((1, Kind::Code)),
        ['\'', '\\', _, tail @ ..] => (3 + tail.iter().position(|c| *c == '\'').unwrap_or(0) + 1, Kind::Literal),
        ['\'', _, '\'', ..] => (3, Kind::Literal),
        [c, ..] if c.is_alphanumeric() || *c == '_' => {
            (rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(), Kind::Code)
        }
        _ => (1, Kind::Code),
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted(rest: &[char], opening: usize) -> usize {
    let mut at = opening;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw(rest: &[char]) -> Option<(usize, Kind)> {
    let start = rest.iter().position(|c| *c == 'r')? + 1;
    let hashes = rest[start..].iter().take_while(|c| **c == '#').count();
    if rest.get(start + hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = start + hashes + 1;
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    Some((found.map_or(rest.len(), |found| body + found + end.len()), Kind::Literal))
}

/// The lines (from 0) of items under `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<std::ops::RangeInclusive<usize>> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    let mut n = 0;
    while n < lines.len() {
        if lines[n].trim_start().starts_with("#[cfg(test)]") {
            let end = item_end(&lines, n);
            found.push(n..=end);
            n = end;
        }
        n += 1;
    }
    found
}

/// The last line of the item that begins at or below line `from`.
pub fn item_end(lines: &[&str], from: usize) -> usize {
    let mut depth = 0_i32;
    for (n, line) in lines.iter().enumerate().skip(from) {
        let attribute = line.trim_start().starts_with("#[");
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == '}' && depth == 0) || (c == ';' && depth == 0 && !attribute) {
                return n;
            }
        }
    }
    lines.len().saturating_sub(1)
}

#[test]
fn words_in_comments_strings_and_tests_are_not_code() {
    let text = "//! warp\nlet a = \"warp // \\\" {\"; /* warp /* x */ */ b::<'a>('{', b'\\n', r#\"wa\"rp\"#);\n#[cfg(test)]\nmod tests {\n    warp();\n}\nfn last() {}\n";
    let source = Source::new("src/http/x.rs".into(), text.into());
    assert!(!source.code.contains("warp") && source.code.contains("b::<'a>("), "{}", source.code);
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert!(source.code_and_strings.contains("warp // ") && !source.code_and_strings.contains("warp()"));
    assert!(source.code.contains("fn last"));
    assert_eq!(source.room(), Some("http"));
    let parent = Source::new("src/http/mod.rs".into(), "#[cfg(test)]\npub(crate) mod fixture;\nmod body;\n".into());
    assert_eq!(parent.test_files(), ["src/http/fixture"]);
}
