//! Findings in the forms that other programs show at the lines of a change.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::Code;
use crate::model::diagnostic::Diagnostic;

/// The report that GitLab shows in a merge request
/// (<https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>).
pub fn gitlab(findings: &[Diagnostic]) -> Value {
    let item = |finding: &Diagnostic| {
        let line = finding.position.map_or(1, |at| at.line);
        json!({
            "description": sentence(finding),
            "check_name": finding.code,
            "fingerprint": fingerprint(finding),
            "severity": if finding.is_error() { "major" } else { "minor" },
            "location": { "path": finding.path, "lines": { "begin": line } },
        })
    };
    Value::Array(findings.iter().map(item).collect())
}

/// SARIF 2.1.0 (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>).
pub fn sarif(findings: &[Diagnostic]) -> Value {
    let mut codes: Vec<Code> = findings.iter().map(|finding| finding.code).collect();
    codes.sort();
    codes.dedup();
    let rule = |code: &Code| {
        json!({
            "id": code,
            "shortDescription": { "text": code.title() },
            "help": { "text": code.page(), "markdown": code.page() },
        })
    };
    let result = |finding: &Diagnostic| {
        let mut place = json!({ "artifactLocation": { "uri": uri(&finding.path), "uriBaseId": "%SRCROOT%" } });
        if let Some(at) = finding.position {
            place["region"] = json!({ "startLine": at.line, "startColumn": at.column });
        }
        json!({
            "ruleId": finding.code,
            "level": if finding.is_error() { "error" } else { "warning" },
            "message": { "text": sentence(finding) },
            "locations": [{ "physicalLocation": place }],
            "partialFingerprints": { "skillhook/v1": fingerprint(finding) },
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "skillhook",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn sentence(finding: &Diagnostic) -> String {
    match &finding.hint {
        Some(hint) => format!("{} ({hint})", finding.message),
        None => finding.message.clone(),
    }
}

/// The same finding has the same fingerprint wherever its line moves to.
fn fingerprint(finding: &Diagnostic) -> String {
    let text = format!("{}\0{}\0{}", finding.path, finding.code, finding.message);
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Diagnostic> {
        let error = Diagnostic::error(".claude/skills/a b/SKILL.md", Code::ConfigValue, "not allowed").hint("use `x`");
        vec![error.at(3, 5), Diagnostic::warning("b", Code::OpenToAnyone, "open")]
    }

    #[test]
    fn a_code_quality_report_has_places_and_lasting_fingerprints() {
        let report = gitlab(&findings());
        assert_eq!(report[0]["location"], json!({"path": ".claude/skills/a b/SKILL.md", "lines": {"begin": 3}}));
        assert_eq!((&report[0]["severity"], &report[1]["severity"]), (&json!("major"), &json!("minor")));
        assert_ne!(report[0]["fingerprint"], report[1]["fingerprint"]);
        assert_eq!(report[0]["description"], "not allowed (use `x`)");
    }

    #[test]
    fn sarif_names_rules_and_regions() {
        let log = sarif(&findings());
        let run = &log["runs"][0];
        let place = &run["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], ".claude/skills/a%20b/SKILL.md");
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 5}));
        assert_eq!(run["results"][1]["level"], "warning");
        let rules: Vec<&str> = run["tool"]["driver"]["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["id"].as_str().unwrap())
            .collect();
        assert_eq!(rules, ["SH0106", "SH0115"]);
    }
}
