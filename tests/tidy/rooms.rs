//! Which room may know which, and which words belong to one room alone (ARCHITECTURE, section 3).

use super::source::Source;

/// Each top-level module and the ones that it may name. `cli`, `demo` and `app` stand above all others.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("seam", &["error"]),
    ("model", &["error"]),
    ("config", &["error", "model"]),
    ("telemetry", &["error", "model", "seam", "ledger"]),
    ("secrets", &["error", "model", "seam", "config"]),
    ("index", &["error", "model", "seam", "telemetry"]),
    ("ledger", &["error", "model", "seam", "postgres"]),
    ("repo", &["error", "model", "seam", "telemetry"]),
    ("postgres", &["error"]),
    ("copies", &["error", "model", "seam", "telemetry", "repo", "reconcile", "postgres"]),
    ("reconcile", &["error", "model", "seam", "telemetry", "index", "ledger", "repo"]),
    ("change", &["error", "model", "seam", "index", "ledger", "repo", "reconcile"]),
    ("mcp", &["error", "model", "seam", "index", "ledger", "reconcile", "change", "outward"]),
    ("workspace", &["error", "model", "seam", "telemetry", "repo"]),
    ("respond", &["error", "model", "seam", "telemetry", "secrets", "ledger"]),
    (
        "outward",
        &["error", "model", "seam", "telemetry", "secrets", "ledger", "repo", "reconcile", "workspace", "respond"],
    ),
    ("worker", &["error", "model", "seam", "telemetry", "ledger", "workspace", "mcp", "outward"]),
    ("http", &["error", "model", "seam", "telemetry", "secrets", "ledger", "index", "reconcile", "change", "mcp"]),
    ("review", &["error", "model", "seam", "telemetry", "ledger", "repo", "reconcile", "respond"]),
    (
        "app",
        &[
            "error",
            "model",
            "seam",
            "config",
            "telemetry",
            "secrets",
            "index",
            "ledger",
            "repo",
            "reconcile",
            "change",
            "mcp",
            "outward",
            "copies",
            "workspace",
            "respond",
            "worker",
            "review",
            "http",
        ],
    ),
    (
        "demo",
        &["app", "error", "model", "seam", "config", "ledger", "index", "reconcile", "repo", "telemetry", "worker"],
    ),
    (
        "cli",
        &[
            "app",
            "demo",
            "error",
            "model",
            "seam",
            "config",
            "telemetry",
            "secrets",
            "index",
            "ledger",
            "repo",
            "reconcile",
            "change",
            "mcp",
            "copies",
            "worker",
            "http",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

/// A word that belongs somewhere.
struct Home {
    word: &'static str,
    /// Paths below `src/` where it may stand; empty: nowhere.
    at: &'static [&'static str],
    why: &'static str,
}

const fn home(word: &'static str, at: &'static [&'static str], why: &'static str) -> Home {
    Home { word, at, why }
}

/// Words in code, whole (`git2::` does not match `mygit2::`).
const HOMES: &[Home] = &[
    home("warp::", &["http/"], "only http knows the HTTP framework"),
    home("git2::", &["repo/"], "only repo knows git"),
    home("redb::", &["index/", "ledger/"], "databases are opened by index and ledger alone"),
    home("notify::", &["reconcile/watch.rs"], "events of the file system are hints: one file deals with them"),
    home("tera::", &["model/"], "templates are part of what is decided"),
    home("gray_matter::", &["model/frontmatter/"], "frontmatter is split in one place, behind a guard"),
    home("config::Config", &["config.rs", "app/", "cli/", "demo/"], "settings are handed down as values"),
    home("env::var", &["config.rs", "secrets/"], "the environment has two readers"),
    home("env::vars", &["config.rs", "secrets/"], "the environment has two readers"),
    home("env::var_os", &["config.rs", "secrets/"], "the environment has two readers"),
    home("env::vars_os", &["config.rs", "secrets/"], "the environment has two readers"),
    home("env::set_var", &[], "the environment is shared by every thread"),
    home("env::remove_var", &[], "the environment is shared by every thread"),
    home(
        "io::stdout",
        &["cli/output.rs", "worker/agent/"],
        "one module prints; the supervisor's streams are its protocol",
    ),
    home("println!", &[], "one module prints, through its streams"),
    home("eprintln!", &[], "one module prints, through its streams"),
    home("unbounded_channel", &[], "every queue has a limit"),
    home("Timestamp::now", &["seam.rs"], "time comes from the clock that is handed down"),
    home("SystemTime::now", &["seam.rs", "repo/locks.rs"], "time comes from the clock that is handed down"),
    home("Uuid::now_v7", &["seam.rs"], "ids come from one place"),
    home("todo!", &[], "what is not there yet is left out"),
    home("unimplemented!", &[], "what is not there yet is left out"),
    home("lazy_static!", &[], "no statics: state has an owner"),
    home("OnceLock", &[], "no statics: state has an owner"),
    home("static mut", &[], "no statics: state has an owner"),
    home("#[ignore", &[], "a test that does not run proves nothing"),
    home("#[allow", &[], "`#[expect(…, reason = \"…\")]` says why and goes when it is no longer true"),
];

/// Words that may not stand in these places.
const BANNED: &[(&str, &[&str], &str)] = &[
    (
        "model/",
        &[
            "std::fs",
            "std::env",
            "std::net",
            "std::process",
            "std::thread",
            "tokio::",
            "Instant::now",
            "getrandom::",
            "async fn",
            "async move",
        ],
        "the model is pure",
    ),
    (
        "http/receiver",
        &["std::fs", "tokio::fs", "File::open", "walkdir::", "crate::repo", "crate::index::Index"],
        "the receiver reads the published routes and nothing else",
    ),
    (
        "worker/",
        &["walkdir::", "crate::repo", "crate::index", "crate::reconcile"],
        "a run gets everything with its task",
    ),
];

/// Strings that belong somewhere.
const STRINGS: &[Home] = &[
    home("Command::new(\"git\"", &["repo/"], "only repo runs the git program"),
    home(
        "SKILL.md",
        &["model/", "reconcile/", "cli/", "demo/", "app/", "change/", "mcp/", "error/"],
        "what was matched is in the task and the index, never read again from files",
    ),
];

/// What breaks a rule, as `path:line: why`.
pub fn check(sources: &[Source], found: &mut Vec<String>) {
    for source in sources.iter().filter(|source| source.path.starts_with("src/") && !source.is_test()) {
        directions(source, found);
        homes(source, &source.code, HOMES, found);
        homes(source, &source.code_and_strings, STRINGS, found);
        banned(source, found);
    }
}

/// Every package that is depended on is used: each costs compile time, licences and trust.
pub fn dependencies(manifest: &str, sources: &[Source], found: &mut Vec<String>) {
    let mut section = "";
    for (n, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        let Some((name, _)) = line.split_once(" = ").filter(|_| section == "[dependencies]" && !line.starts_with('#'))
        else {
            continue;
        };
        let word = format!("{}::", name.trim().replace('-', "_"));
        let used = |source: &&Source| source.path.starts_with("src/") && !lines_with(&source.code, &word).is_empty();
        if !sources.iter().any(|source| used(&source)) {
            found.push(format!("Cargo.toml:{}: nothing in src/ uses `{}`", n + 1, name.trim()));
        }
    }
}

fn directions(source: &Source, found: &mut Vec<String>) {
    let Some(room) = source.room() else { return };
    let Some((_, known)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        found.push(format!("{}:1: `{room}` has no row in the table of rooms (tests/tidy/rooms.rs)", source.path));
        return;
    };
    for (line, named) in named_rooms(&source.code) {
        if named != room && !known.contains(&named.as_str()) && ROOMS.iter().any(|(name, _)| *name == named) {
            found.push(format!("{}:{line}: `{room}` may not know `{named}`", source.path));
        }
    }
}

/// The top-level modules in paths that begin with `crate::`, `crate::{…}` included.
fn named_rooms(code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => named.push((line, word(rest))),
            Some(group) => named.extend(top_level(group).into_iter().map(|part| (line, word(part.trim_start())))),
        }
    }
    named
}

/// The parts of a `use` group up to its closing brace; those of inner groups stay together.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

fn homes(source: &Source, view: &str, homes: &[Home], found: &mut Vec<String>) {
    for home in homes {
        let inside = source.path.trim_start_matches("src/");
        if home.at.iter().any(|at| inside.starts_with(at)) {
            continue;
        }
        for line in lines_with(view, home.word) {
            let (word, why) = (home.word, home.why);
            found.push(format!("{}:{line}: `{word}` does not belong here: {why}", source.path));
        }
    }
}

fn banned(source: &Source, found: &mut Vec<String>) {
    for (place, words, why) in BANNED {
        if !source.path.trim_start_matches("src/").starts_with(place) {
            continue;
        }
        for word in *words {
            for line in lines_with(&source.code, word) {
                found.push(format!("{}:{line}: `{word}` may not stand here: {why}", source.path));
            }
        }
    }
}

/// The lines (from 1) on which the word stands by itself.
fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let open_end = word.ends_with(part_of_name);
    let stands = |(at, _): &(usize, &str)| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let runs_on = |end_of_word: bool, next: Option<char>| end_of_word && next.is_some_and(part_of_name);
        !runs_on(word.starts_with(part_of_name), before) && !runs_on(open_end, after)
    };
    text.match_indices(word).filter(stands).map(|(at, _)| text[..at].matches('\n').count() + 1).collect()
}

#[test]
fn paths_are_found_in_groups_and_words_stand_by_themselves() {
    let code = "use crate::{error::Code, model::{ids, task}};\nuse crate::http;\nfn f(notify_one: x) { crate::a::b(); $crate::z }\n";
    let rooms: Vec<String> = named_rooms(code).into_iter().map(|(line, room)| format!("{line} {room}")).collect();
    assert_eq!(rooms, ["1 error", "1 model", "2 http", "3 a"]);
    assert_eq!(lines_with("env::var_os(\n)\nenv::var(x)", "env::var"), [3]);
    assert!(lines_with("std::sync::notify_one", "notify::").is_empty());
}
