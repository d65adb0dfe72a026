//! Skills and agents as files: read, uploaded, replaced, deleted. An `ETag` names the version that was read, and
//! `If-Match` keeps the change of somebody else from being lost.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use warp::http::{StatusCode, header};

use super::changes::{answer, changes, on_behalf};
use super::multipart;
use super::not_found;
use super::request::{Asked, media};
use super::state::{ApiState, Standing};
use crate::change::operations::PutSkill;
use crate::change::{Applied, Refused};
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::model::change::Expect;
use crate::model::digest::Digest;
use crate::model::ids::{AgentName, SkillName};
use crate::model::snapshot::{agent_path, skill_path};

/// A skill or an agent to be put.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// The whole file: frontmatter and text.
    content: String,
    /// Other files of a skill, by their paths inside its directory.
    #[serde(default)]
    files: BTreeMap<String, UploadedFile>,
}

/// Text as it is, or bytes as base64.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum UploadedFile {
    Text(String),
    Bytes { base64: String },
}

/// The new content of a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The whole file: frontmatter and text.
    content: String,
}

/// What is kept in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Skill,
    Agent,
}

/// One of them, by a name that is one.
#[derive(Clone, Debug)]
enum Named {
    Skill(SkillName),
    Agent(AgentName),
}

impl Named {
    fn of(kind: Kind, name: &str) -> Result<Self, String> {
        match kind {
            Kind::Skill => SkillName::parse(name).map(Named::Skill),
            Kind::Agent => AgentName::parse(name).map(Named::Agent),
        }
    }

    /// The one that an address names.
    fn found(kind: Kind, name: &str) -> Result<Self> {
        Self::of(kind, name).map_err(|_| not_found(kind.as_str(), name))
    }

    fn path(&self) -> String {
        match self {
            Named::Skill(name) => skill_path(name.as_str()),
            Named::Agent(name) => agent_path(name.as_str()),
        }
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Skill => "skill",
            Kind::Agent => "agent",
        }
    }
}

/// The file as it stands in the tree.
pub async fn content(state: &ApiState, kind: Kind, name: &str) -> Result<Answer> {
    let named = Named::found(kind, name)?;
    let bytes = changes(state)?.read(&named.path()).await?.ok_or_else(|| not_found(kind.as_str(), name))?;
    let etag = etag(&Digest::of(&bytes));
    Ok(Answer::of_type(StatusCode::OK, "text/markdown; charset=utf-8", bytes).header(header::ETAG, &etag))
}

/// Replaces the file; the body is the file itself, or JSON with `content`.
pub async fn put(state: &ApiState, kind: Kind, name: &str, asked: &Asked<'_>) -> Result<Answer> {
    let named = Named::found(kind, name)?;
    let content = match media(asked.head).as_str() {
        "application/json" => asked.json::<Content>()?.content,
        "text/markdown" | "text/plain" | "application/octet-stream" => text(asked.body)?,
        _ => return Err(unsupported("send `text/markdown`, or JSON with `content`")),
    };
    let made = write(state, &named, content, BTreeMap::new(), asked).await?;
    outcome(state, &named, made, StatusCode::OK).await
}

/// Makes a skill or an agent, or replaces it.
pub async fn upload(state: &ApiState, kind: Kind, asked: &Asked<'_>) -> Result<Answer> {
    let (name, content, files) = match media(asked.head).as_str() {
        "application/json" => {
            let Upload { name, content, files } = asked.json()?;
            (name, content, decoded(files)?)
        }
        "multipart/form-data" => of_parts(asked)?,
        _ => return Err(unsupported("send JSON with `name` and `content`, or `multipart/form-data`")),
    };
    let named = Named::of(kind, &name).map_err(|message| Error::new(Code::Usage, message))?;
    if matches!(named, Named::Agent(_)) && !files.is_empty() {
        return Err(Error::new(Code::Usage, "an agent is one file"));
    }
    let made = write(state, &named, content, files, asked).await?;
    outcome(state, &named, made, StatusCode::CREATED).await
}

pub async fn delete(state: &ApiState, kind: Kind, name: &str, asked: &Asked<'_>) -> Result<Answer> {
    let named = Named::found(kind, name)?;
    let (changes, expect, behalf) = (changes(state)?, expected(asked)?, on_behalf(asked)?);
    let made = match &named {
        Named::Skill(name) => changes.delete_skill(name, expect, behalf).await,
        Named::Agent(name) => changes.delete_agent(name, expect, behalf).await,
    };
    outcome(state, &named, made, StatusCode::OK).await
}

async fn write(
    state: &ApiState,
    named: &Named,
    content: String,
    files: BTreeMap<String, Vec<u8>>,
    asked: &Asked<'_>,
) -> Result<Result<Applied, Refused>> {
    let (changes, expect, behalf) = (changes(state)?, expected(asked)?, on_behalf(asked)?);
    Ok(match named {
        Named::Skill(name) => changes.put_skill(PutSkill { name: name.clone(), content, files, expect }, behalf).await,
        Named::Agent(name) => changes.put_agent(name, content, expect, behalf).await,
    })
}

/// The answer with the `ETag` of what is there now; a version that is no longer the newest is 412.
async fn outcome(state: &ApiState, named: &Named, made: Result<Applied, Refused>, done: StatusCode) -> Result<Answer> {
    let path = named.path();
    match made {
        Err(refused) if refused.error.code() == Code::Conflict => {
            let now = changes(state)?.read(&path).await?.map(|bytes| etag(&Digest::of(&bytes)));
            let error = Error::new(Code::Outdated, refused.error.message()).hint(match &now {
                Some(etag) => format!("read it again; it is at {etag} now"),
                None => "it is gone".to_owned(),
            });
            let answer = Answer::problem_with(error, json!({ "etag": now, "commit": commit(state) }));
            Ok(now.iter().fold(answer, |answer, etag| answer.header(header::ETAG, etag)))
        }
        Ok(applied) => {
            let etag = applied.files.get(&path).copied().flatten().map(|digest| etag(&digest));
            let answer = answer(state, Ok(applied), done).await;
            Ok(etag.iter().fold(answer, |answer, etag| answer.header(header::ETAG, etag)))
        }
        refused => Ok(answer(state, refused, done).await),
    }
}

/// The last commit that holds what is in force.
fn commit(state: &ApiState) -> Option<String> {
    let index = state.index.current()?;
    let conditions = index.webhooks.iter().flat_map(|webhook| &webhook.conditions);
    let committed =
        conditions.into_iter().find(|condition| condition.kind == Standing::Committed && condition.status)?;
    Some(committed.message.clone())
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// What `If-Match` and `If-None-Match` ask for.
fn expected(asked: &Asked<'_>) -> Result<Expect> {
    let refuse = |message: &str| Error::new(Code::Usage, message).hint("send the `ETag` that was read, in quotes");
    if let Some(value) = asked.head.headers.get(header::IF_NONE_MATCH) {
        return if value == "*" { Ok(Expect::Absent) } else { Err(refuse("`If-None-Match` may only be `*`")) };
    }
    if !asked.head.headers.contains_key(header::IF_MATCH) {
        return Ok(Expect::Any);
    }
    let value = asked.head.single_header(header::IF_MATCH).unwrap_or_default();
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let digest = quoted.and_then(|digest| Digest::parse(digest).ok());
    digest.map(Expect::Is).ok_or_else(|| refuse("`If-Match` holds no version that was read here"))
}

fn decoded(files: BTreeMap<String, UploadedFile>) -> Result<BTreeMap<String, Vec<u8>>> {
    let decode = |(path, file): (String, UploadedFile)| {
        let bytes = match file {
            UploadedFile::Text(text) => text.into_bytes(),
            UploadedFile::Bytes { base64 } => BASE64
                .decode(base64)
                .map_err(|_| Error::new(Code::Usage, format!("`{}` is not base64", path.escape_default())))?,
        };
        Ok((path, bytes))
    };
    files.into_iter().map(decode).collect()
}

/// `name` and `content` as fields, or the file itself as a part that is called SKILL.md or NAME.md; other parts with a file
/// name are files of the skill.
fn of_parts(asked: &Asked<'_>) -> Result<(String, String, BTreeMap<String, Vec<u8>>)> {
    let content_type = asked.head.single_header(header::CONTENT_TYPE).unwrap_or_default();
    let (mut name, mut content, mut files) = (None, None, BTreeMap::new());
    for part in multipart::parts(content_type, asked.body)? {
        match (part.name.as_str(), part.file_name) {
            ("name", None) => name = Some(text(&part.bytes)?),
            ("content", None) => content = Some(text(&part.bytes)?),
            (_, Some(file)) if content.is_none() && is_main(&file) => {
                name = name.or_else(|| stem(&file));
                content = Some(text(&part.bytes)?);
            }
            (_, Some(file)) => drop(files.insert(file, part.bytes)),
            (unknown, None) => {
                let message = format!("there is no field `{}` here", unknown.escape_default());
                return Err(Error::new(Code::Usage, message).hint("the fields are `name`, `content` and files"));
            }
        }
    }
    let missing = |what: &str| Error::new(Code::Usage, format!("the form has no `{what}`"));
    Ok((name.ok_or_else(|| missing("name"))?, content.ok_or_else(|| missing("content"))?, files))
}

fn is_main(file: &str) -> bool {
    !file.contains('/') && file.ends_with(".md")
}

/// The name that an agent's file gives it; a skill's file is called the same in every skill.
fn stem(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".md")?;
    (!stem.chars().all(|c| c.is_ascii_uppercase())).then(|| stem.to_owned())
}

fn text(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::new(Code::Usage, "the file is no UTF-8 text"))?;
    Ok(text.to_owned())
}

fn unsupported(hint: &str) -> Error {
    Error::new(Code::UnsupportedContent, "the body is of a kind that is not taken here").hint(hint)
}
