//! `trigger`: a sample delivery that signs itself, sent as its provider would send it.

use clap::{Args, ValueHint};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::{DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::files;
use super::output::{harmless, harmless_lines};
use super::sheet::{Form, Sheet, column};
use crate::config::Config;
use crate::error::{Code, Context as _, Error, Result};
use crate::model::diagnostic::did_you_mean;
use crate::model::provider::sample::{self, Sample};
use crate::model::provider::schema::verify::Scheme;
use crate::model::provider::{Definition, Incoming};
use crate::model::spec::WebhookSpec;
use crate::seam::{Clock, fresh_id};
use crate::secrets::Secrets;
use crate::secrets::seal::Sealer;

#[derive(Debug, Args)]
#[command(after_help = "\
The delivery is signed with the webhook's own secret, as this command finds it: in its environment or in the \
secret directory. The webhook is the provider's built-in one unless --webhook names another.

Examples:
  skillhook trigger --list
  skillhook trigger github.issue_comment.created --override comment.body='@agent analyze this'
  skillhook trigger github.issues.opened --override issue.title=Crash --override issue.number=12
  skillhook trigger custom.build.failed --webhook ci --dry-run")]
pub struct Trigger {
    /// The sample, for example `github.issues.opened`
    #[arg(value_name = "PROVIDER.EVENT", required_unless_present = "list")]
    sample: Option<String>,
    /// List the samples
    #[arg(long, conflicts_with = "sample")]
    list: bool,
    /// The webhook to deliver to
    #[arg(long, value_name = "ID")]
    webhook: Option<String>,
    /// Change a value of the body: `issue.title=Crash`, `/issue/labels/0/name=bug`; may be repeated
    #[arg(long = "override", value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// Deliver to another receiver than the one of the settings, for example `https://hooks.example.com`
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    url: Option<String>,
    /// Print the request, and send nothing
    #[arg(long)]
    dry_run: bool,
}

const SAMPLES: Sheet = Sheet {
    singular: "sample",
    plural: "samples",
    name: &["/name"],
    columns: &[column("NAME", Form::Text, &["/name"]), column("PROVIDER", Form::Text, &["/provider"])],
};

impl Trigger {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let Some(name) = &self.sample else {
            let named = |sample: Sample| json!({"name": format!("{}.{}", sample.provider, sample.event), "provider": sample.provider});
            let samples: Vec<Value> = sample::all().into_iter().map(named).collect();
            context.output.list(&SAMPLES, &samples);
            return Ok(Exit::Done);
        };
        let mut sample = sample::find(name)?;
        self.overrides.iter().try_for_each(|assignment| sample.set(assignment))?;
        let config = context.config()?;
        let (spec, definition) = self.webhook(context, &config, &sample).await?;
        let url = self.url(&config, &spec);
        let secrets = secrets(&config)?.for_webhook(&spec);
        let id = fresh_id().to_string();
        let incoming = sample::sign(&definition, &secrets, &sample, &url, &id, now()).map_err(|error| {
            if error.code() == Code::SecretMissing { error.hint(where_secrets_are(&spec)) } else { error }
        })?;
        if self.dry_run {
            let hidden = hides_secrets(&definition);
            context.output.value(&request(&incoming, &sample, hidden), as_text);
            return Ok(Exit::Done);
        }
        let (status, answer) = send(incoming).await?;
        let told = json!({"url": url, "status": status, "answer": answer});
        context.output.record(&told);
        for task in told["answer"]["tasks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            context.output.note(&format!("follow it with `skillhook logs -f {}`", harmless(task)));
        }
        Ok(if (200..300).contains(&status) { Exit::Done } else { exit_of(&answer) })
    }

    /// The webhook as the server serves it; as the files say it where no server answers.
    async fn webhook(&self, context: &Context, config: &Config, sample: &Sample) -> Result<(WebhookSpec, Definition)> {
        let id = self.webhook.as_deref().unwrap_or(&sample.provider);
        let look = files::look(config)?;
        let served = context.client()?.get(Route::api(&["webhooks", id]), DEADLINE).await;
        let spec = match served {
            Ok(mut webhook) => serde_json::from_value(webhook["spec"].take())
                .context(Code::Bug, "the server's webhook is of another form")?,
            Err(error) if error.code() == Code::ServerAway => {
                let known = look.judgement.desired.webhooks.iter().find(|(known, _)| known.as_str() == id);
                known.map(|(_, (spec, _))| spec.clone()).ok_or_else(|| unknown(id, &look))?
            }
            Err(error) if error.code() == Code::NotFound => return Err(unknown(id, &look)),
            Err(error) => return Err(error),
        };
        let definition = look.catalogue.get(spec.provider.as_str()).ok_or_else(|| {
            Error::new(Code::ProviderUnknown, format!("the provider `{}` is not known here", spec.provider))
        })?;
        let definition = match &spec.definition {
            Some(inline) => definition.overlaid(inline).map_err(|found| {
                let detail = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                Error::new(Code::DefinitionInvalid, "the webhook's inline definition is not valid").detail(detail)
            })?,
            None => Definition::clone(definition),
        };
        Ok((spec, definition))
    }

    fn url(&self, config: &Config, spec: &WebhookSpec) -> String {
        let base = self.url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
        format!("{}{}", base.trim_end_matches('/'), spec.endpoint)
    }
}

fn unknown(id: &str, look: &files::Look) -> Error {
    let known: Vec<&str> = look.judgement.desired.webhooks.keys().map(crate::model::ids::WebhookId::as_str).collect();
    let hint = match did_you_mean(id, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name one with `--webhook`; `skillhook get webhooks` lists them".to_owned(),
    };
    Error::new(Code::NotFound, format!("there is no webhook `{id}`")).hint(hint)
}

fn where_secrets_are(spec: &WebhookSpec) -> String {
    let named: Vec<String> = spec.secrets.values().flatten().map(ToString::to_string).collect();
    format!("set {} here too, with the value that the server has", named.join(" or "))
}

fn now() -> Timestamp {
    Clock::System.now()
}

/// Finds secrets as the server does.
///
/// # Errors
/// SH0301.
pub fn secrets(config: &Config) -> Result<Secrets> {
    let settings = &config.settings;
    let directory = config.data.join(&settings.secrets.directory);
    let sealer = Sealer::open(&directory)?;
    let environment = crate::config::environment();
    Secrets::new(environment, &settings.secrets.env_allow, directory, settings.providers.clone(), sealer)
}

/// Whether the sender shows the secret itself, so that the request must not be printed whole.
fn hides_secrets(definition: &Definition) -> bool {
    let shows = |scheme: &Scheme| matches!(scheme, Scheme::Token(_) | Scheme::Basic(_));
    definition.document().verify.schemes.iter().any(shows)
}

/// What would be sent. Where the secret itself is part of it, what signing added is left out.
fn request(incoming: &Incoming, sample: &Sample, hidden: bool) -> Value {
    let known = |name: &str| sample.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut headers = serde_json::Map::new();
    for (name, value) in incoming.headers.iter() {
        let shown = if hidden && !known(name) { "(not shown)".into() } else { String::from_utf8_lossy(value) };
        headers.insert(name.to_owned(), shown.into());
    }
    let url = if hidden { incoming.url.split('?').next().unwrap_or_default() } else { &incoming.url };
    let body: Value = serde_json::from_slice(&incoming.body).unwrap_or_default();
    json!({"method": incoming.method, "url": url, "headers": headers, "body": body})
}

fn as_text(request: &Value) -> String {
    let word = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
    let mut text = format!("{} {}\n", word("method"), word("url"));
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        text.push_str(&format!("{name}: {}\n", value.as_str().unwrap_or_default()));
    }
    harmless_lines(&format!("{text}\n{:#}\n", request["body"]))
}

async fn send(incoming: Incoming) -> Result<(u16, Value)> {
    let client = reqwest::Client::builder()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context(Code::Bug, "the HTTP client cannot be made")?;
    let mut post = client.post(&incoming.url).body(incoming.body.clone());
    for (name, value) in incoming.headers.iter() {
        post = post.header(name, value);
    }
    let away = |error: reqwest::Error| {
        Error::new(Code::ServerAway, "the receiver does not answer")
            .hint("is `skillhook up` running? `--url` names another address")
            .detail(error.without_url())
    };
    let response = post.send().await.map_err(away)?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(away)?;
    let answer = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
    Ok((status, answer))
}

fn exit_of(answer: &Value) -> Exit {
    let code = answer["code"].as_str().and_then(|code| Code::ALL.iter().find(|known| known.as_str() == code));
    code.map_or(Exit::Difference, |code| Exit::from(*code))
}
