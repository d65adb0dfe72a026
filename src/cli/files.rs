//! `validate`: what the files mean, without a server. Nothing is written, no database is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueHint};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::Exit;
use super::output::{BAD, GOOD};
use super::report;
use crate::app;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::model::desired::{Circumstances, Judgement, judge};
use crate::model::diagnostic::Diagnostic;
use crate::model::entry::Observed;
use crate::model::provider::Catalogue;
use crate::reconcile::activator::Scope;
use crate::reconcile::embedded;
use crate::reconcile::judge::Judge;
use crate::reconcile::look::Looker;
use crate::seam::Clock;

/// The files at one look, judged.
pub struct Look {
    pub judgement: Judgement,
    pub catalogue: Arc<Catalogue>,
    /// Findings in every file, errors first.
    pub findings: Vec<Diagnostic>,
}

/// Looks at the files below the root.
///
/// # Errors
/// SH0999 when something that comes with the program is not valid.
pub fn look(config: &Config) -> Result<Look> {
    look_beside(config, config.root.clone(), &Observed::default(), &BTreeMap::new())
}

/// Looks at the files below any directory, where `observed` is in force; `absent_since` tells for how long files of
/// it have been missing.
///
/// # Errors
/// As [`look`].
pub fn look_beside(
    config: &Config,
    root: PathBuf,
    observed: &Observed,
    absent_since: &BTreeMap<String, Timestamp>,
) -> Result<Look> {
    let mut judge_of_files = Judge::new(app::rules(config))?;
    let (embedded, _) = embedded::load(&judge_of_files)?;
    let now = Clock::System.now();
    let snapshot = Looker::new(root).look(&Scope::Everything, &mut judge_of_files, now.as_nanosecond());
    let catalogue = judge_of_files.catalogue();
    // This is only a look: no deletion needs a confirmation.
    let circumstances = Circumstances { now, absent_since, allow_prune: true, deleted: &BTreeSet::new() };
    let judgement = judge(&snapshot, observed, &embedded, &catalogue, &circumstances);
    let mut findings = snapshot.problems;
    findings.extend(judgement.desired.skills.values().flat_map(|entry| entry.diagnostics.iter().cloned()));
    findings.extend(judgement.desired.agents.values().flat_map(|entry| entry.diagnostics.iter().cloned()));
    findings.sort_by(|a, b| (a.severity, &a.path, a.position).cmp(&(b.severity, &b.path, b.position)));
    findings.dedup();
    Ok(Look { judgement, catalogue, findings })
}

#[derive(Debug, Args)]
#[command(after_help = "\
Findings are `path:line:column: error[CODE]: message` on standard error; `skillhook error CODE` explains a code.
Exit codes: 0 no errors (warnings may be there), 2 errors.

Examples:
  skillhook validate
  skillhook validate .claude/skills/pr-review
  skillhook validate --format github
  skillhook validate --format sarif > skillhook.sarif
  skillhook validate --format json | jq '.diagnostics[].code'")]
pub struct Validate {
    /// Show only findings in these files or directories; everything is looked at all the same
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// How findings are printed
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people and editors
    Text,
    /// One JSON object on standard output
    Json,
    /// Workflow commands of GitHub Actions: findings appear in the diff of a pull request
    Github,
    /// A code quality report, as GitLab shows it in a merge request
    Gitlab,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

impl Validate {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let config = context.config()?;
        let places = self.paths.iter().map(|path| below(&config.root, path)).collect::<Result<Vec<_>>>()?;
        let Look { judgement, findings, .. } = look(&config)?;
        let wanted = |finding: &Diagnostic| {
            places.is_empty() || places.iter().any(|at| Path::new(&finding.path).starts_with(at))
        };
        let findings: Vec<Diagnostic> = findings.into_iter().filter(wanted).collect();
        let errors = findings.iter().filter(|finding| finding.is_error()).count();
        let counted = json!({
            "valid": errors == 0,
            "errors": errors,
            "warnings": findings.len() - errors,
            "skills": judgement.desired.skills.values().filter(|entry| !entry.embedded).count(),
            "agents": judgement.desired.agents.values().filter(|entry| !entry.embedded).count(),
            "webhooks": judgement.desired.webhooks.len(),
            "diagnostics": findings,
        });
        match self.format {
            Some(Format::Github) => findings.iter().for_each(|finding| context.output.line(&annotation(finding))),
            Some(Format::Gitlab) => context.output.text(&super::output::json(&report::gitlab(&findings))),
            Some(Format::Sarif) => context.output.text(&super::output::json(&report::sarif(&findings))),
            Some(Format::Json) => context.output.text(&super::output::json(&counted)),
            None if context.output.format.is_machine() => context.output.record(&counted),
            Some(Format::Text) | None => {
                context.output.diagnostics(&findings, &config.root);
                context.output.text(&sentence(&counted));
            }
        }
        Ok(if errors == 0 { Exit::Done } else { Exit::Usage })
    }
}

/// `::error file=…,line=…,col=…::message`, escaped as GitHub's runner asks for
/// (<https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>).
fn annotation(finding: &Diagnostic) -> String {
    let text = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |value: &str| text(value).replace(':', "%3A").replace(',', "%2C");
    let level = if finding.is_error() { "error" } else { "warning" };
    let place = finding.position.map_or_else(String::new, |at| format!(",line={},col={}", at.line, at.column));
    let hint = finding.hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    let message = text(&format!("{}{hint}", finding.message));
    format!("::{level} file={}{place},title={}::{message}", property(&finding.path), finding.code)
}

/// The path relative to the root, with forward slashes.
fn below(root: &Path, path: &Path) -> Result<PathBuf> {
    let missing = |error| Error::new(Code::NotFound, format!("`{}` does not exist", path.display())).detail(error);
    let from_root = if path.exists() { path.to_owned() } else { root.join(path) };
    let whole = from_root.canonicalize().map_err(missing)?;
    let relative = whole.strip_prefix(root).map_err(|_| {
        Error::new(Code::Usage, format!("`{}` is not below `{}`", path.display(), root.display()))
            .hint("`--root` names the directory that holds `.claude/`")
    })?;
    Ok(relative.to_owned())
}

fn sentence(counted: &Value) -> String {
    let number = |key: &str, one: &str, several: &str| {
        let count = counted[key].as_u64().unwrap_or(0);
        format!("{count} {}", if count == 1 { one } else { several })
    };
    let style = if counted["valid"] == true { GOOD } else { BAD };
    format!(
        "{}, {}, {}: {style}{}, {}{style:#}\n",
        number("skills", "skill", "skills"),
        number("agents", "agent", "agents"),
        number("webhooks", "webhook", "webhooks"),
        number("errors", "error", "errors"),
        number("warnings", "warning", "warnings"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::buffered;
    use crate::cli::output::{self, Output};
    use crate::config::Overrides;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn validate(output: Output, root: &Path, format: Option<Format>, paths: &[&str]) -> Result<Exit> {
        let overrides = Overrides { root: Some(root.to_owned()), ..Overrides::default() };
        let paths = paths.iter().map(PathBuf::from).collect();
        Validate { paths, format }.run(&Context { output, overrides })
    }

    const GOOD_SKILL: &str = "---\nname: extra\ndescription: An extra command.\nwebhook_config:\n  provider: github\n  commands:\n    - name: shout\n      prompt_template: Shout about {{ issue.title }}.\n---\n";

    #[test]
    fn what_is_shipped_and_what_extends_it_is_valid() {
        let root = root(&[(".claude/skills/extra/SKILL.md", GOOD_SKILL)]);
        let (output, out, err) = buffered(output::Format::Table);
        assert_eq!(validate(output, root.path(), None, &[]).unwrap(), Exit::Done, "{}", err.text());
        assert!(out.text().starts_with("1 skill, 0 agents, "), "{}", out.text());
    }

    #[test]
    fn a_mistake_is_shown_with_its_line_and_ends_with_2() {
        let broken = GOOD_SKILL.replace("provider:", "provder:");
        let root = root(&[(".claude/skills/extra/SKILL.md", &broken)]);
        let (output, out, err) = buffered(output::Format::Table);
        assert_eq!(validate(output, root.path(), None, &[]).unwrap(), Exit::Usage);
        let first = ".claude/skills/extra/SKILL.md:5:3: error[SH0105]: ";
        assert!(err.text().starts_with(first), "{}", err.text());
        assert!(out.text().contains("error"), "{}", out.text());
    }

    #[test]
    fn annotations_are_one_line_and_escaped() {
        let finding = Diagnostic::error("a,b/SKILL.md", Code::ConfigField, "100% wrong").at(5, 3).hint("see: there");
        let expected = "::error file=a%2Cb/SKILL.md,line=5,col=3,title=SH0105::100%25 wrong%0Ahint: see: there";
        assert_eq!(annotation(&finding), expected);
    }

    #[test]
    fn paths_narrow_what_is_shown_and_json_is_one_object() {
        let broken = GOOD_SKILL.replace("provider:", "provder:");
        let root =
            root(&[(".claude/skills/extra/SKILL.md", &broken), (".claude/skills/other/SKILL.md", "no frontmatter\n")]);
        let shown = |paths: &[&str]| {
            let (output, out, _) = buffered(output::Format::Table);
            validate(output, root.path(), Some(Format::Json), paths).unwrap();
            serde_json::from_str::<Value>(&out.text()).unwrap()
        };
        let all = shown(&[]);
        assert!(all["errors"].as_u64().unwrap() >= 2, "{all}");
        let some = shown(&[".claude/skills/other"]);
        assert!(
            some["diagnostics"]
                .as_array()
                .unwrap()
                .iter()
                .all(|found| found["path"] == ".claude/skills/other/SKILL.md"),
            "{some}"
        );
        let (output, _, _) = buffered(output::Format::Table);
        assert_eq!(validate(output, root.path(), None, &["nowhere"]).unwrap_err().code(), Code::NotFound);
    }
}
