//! Every code that a person can meet. Codes are never reused; each has a page in `error/codes/`.

use std::fmt;

/// Whether the same thing may work later, and who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It will never work as it is.
    Never,
    /// It may work by itself: try again later, with backoff.
    Backoff,
    /// It works once something else has finished: wait for it.
    Wait,
    /// A person must do something first.
    HumanNeeded,
}

macro_rules! codes {
    ($($name:ident = $number:literal, $status:literal, $retry:ident, $title:literal;)*) => {
        /// A kind of trouble. `SH01` files, `SH02` templates, `SH03` configuration and start, `SH04` deliveries,
        /// `SH05` index and git, `SH06` ledger, `SH07` agent runs, `SH08` replies, tokens and
        /// secrets, `SH09` commands of people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($name,)* }

        impl Code {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The stable name, for example `SH0103`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => concat!("SH", $number),)* }
            }

            /// The HTTP status with which it is answered.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            pub fn retry(self) -> Retry {
                match self { $(Code::$name => Retry::$retry,)* }
            }

            /// A heading for it.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }

            /// The page of the catalogue, as Markdown.
            pub fn page(self) -> &'static str {
                match self { $(Code::$name => include_str!(concat!("codes/SH", $number, ".md")),)* }
            }
        }
    };
}

codes! {
    FrontmatterUnreadable = "0101", 422, HumanNeeded, "the frontmatter cannot be read";
    FrontmatterYaml = "0102", 422, HumanNeeded, "the frontmatter is not valid YAML";
    FrontmatterLimit = "0103", 422, HumanNeeded, "the file or its frontmatter exceeds a limit";
    SkillIdentity = "0104", 422, HumanNeeded, "the name of the skill or agent is not usable";
    ConfigField = "0105", 422, HumanNeeded, "a field of `webhook_config` is unknown, missing or of the wrong kind";
    ConfigValue = "0106", 422, HumanNeeded, "a value of `webhook_config` is not allowed";
    ProviderUnknown = "0107", 422, HumanNeeded, "the provider is not known";
    EndpointTaken = "0108", 422, HumanNeeded, "the endpoint or id belongs to another webhook";
    CommandConflict = "0109", 422, HumanNeeded, "two commands share a name or alias";
    ReferenceMissing = "0110", 422, HumanNeeded, "an agent, template file or command that is named does not exist";
    SecretReference = "0111", 422, HumanNeeded, "a secret reference is not allowed";
    PlaintextSecret = "0112", 422, HumanNeeded, "a secret stands in the file in plain text";
    DefinitionInvalid = "0113", 422, HumanNeeded, "the provider definition is not valid";
    UnsafePath = "0114", 422, HumanNeeded, "the path is a symlink or has a name that is not used";
    OpenToAnyone = "0115", 200, HumanNeeded, "anyone who can write to the source may start runs";

    TemplateSyntax = "0201", 422, HumanNeeded, "the template does not compile";
    TemplateForbidden = "0202", 422, HumanNeeded, "the template uses something that prompts may not use";
    TemplateLimit = "0203", 422, Never, "the template or its output exceeds a limit";
    TemplateRender = "0204", 422, Never, "the template could not be rendered for this delivery";

    SettingInvalid = "0301", 422, HumanNeeded, "a setting is not valid";
    NotARepository = "0302", 422, HumanNeeded, "the root is not a git work tree";
    DataDirectoryBusy = "0303", 409, HumanNeeded, "another process uses the data directory";
    ListenFailed = "0304", 500, HumanNeeded, "an address cannot be listened on";
    ServerAway = "0305", 503, HumanNeeded, "no server answers";
    InsecureBinding = "0306", 422, HumanNeeded, "the admin listener may not leave loopback";
    BudgetSpent = "0307", 429, Wait, "a budget of the day is used up";
    ApprovalRefused = "0310", 403, HumanNeeded, "this person may not decide the task";
    ApprovalVoid = "0311", 409, HumanNeeded, "the approval is about another prompt";
    CheckoutFailed = "0312", 502, Backoff, "the repository of the task cannot be had";

    UnknownEndpoint = "0401", 404, Never, "there is no webhook at this address";
    MethodNotAllowed = "0402", 405, Never, "the method is not allowed here";
    BodyTooLarge = "0403", 413, Never, "the body is too large";
    BodyIncomplete = "0404", 408, Backoff, "the body did not arrive in time";
    NotVerified = "0405", 401, Never, "the delivery could not be verified";
    UnsupportedContent = "0406", 415, Never, "the content type is not supported";
    BadPayload = "0407", 400, Never, "the payload cannot be read";
    SecretMissing = "0408", 503, Wait, "the webhook has no secret yet";
    RateLimited = "0409", 429, Backoff, "too many deliveries";
    NotReady = "0410", 503, Wait, "the server is not ready yet";
    WebhookDisabled = "0411", 403, HumanNeeded, "the webhook is disabled";

    IndexDamaged = "0501", 503, Backoff, "the index cannot be read";
    IndexWrite = "0502", 503, Backoff, "the index cannot be written";
    GitFailed = "0503", 503, Backoff, "git refused";
    GitBusy = "0504", 503, Backoff, "another git process is at work";
    RemoteUnavailable = "0505", 503, Backoff, "the remote does not answer";
    PruneHeld = "0506", 409, HumanNeeded, "the pass would delete too much";
    RevisionMissing = "0507", 503, Wait, "the revision is not written yet";
    TreeUnreadable = "0508", 503, Backoff, "the files cannot be read";
    NothingToPropose = "0511", 409, Never, "there is nothing to propose";
    ProposalFailed = "0512", 502, HumanNeeded, "the provider did not take the proposal";
    RollbackRefused = "0513", 409, HumanNeeded, "the revision cannot be brought back";

    LedgerUnavailable = "0601", 503, Backoff, "the ledger cannot be written";
    LedgerDamaged = "0602", 500, HumanNeeded, "a row of the ledger is damaged";
    LedgerNewer = "0603", 500, HumanNeeded, "the ledger was written by a newer version";
    StaleAttempt = "0604", 409, Never, "the attempt is no longer the current one";
    WrongState = "0605", 409, Never, "the task is not in a state that allows this";

    AgentMissing = "0701", 503, HumanNeeded, "the agent program cannot be started";
    AgentFailed = "0702", 502, Backoff, "the agent run failed";
    AgentTimeout = "0703", 504, Backoff, "the agent run took too long";
    AgentRefused = "0704", 502, HumanNeeded, "the agent's provider refused";
    AgentLimit = "0705", 429, Wait, "the agent's usage limit is reached";
    WorkspaceFailed = "0706", 503, Backoff, "the workspace cannot be prepared";

    ChangeInvalid = "0720", 422, HumanNeeded, "the change would make files that are not valid";
    StillReferenced = "0721", 409, HumanNeeded, "something still names it";
    BuiltinStays = "0722", 409, HumanNeeded, "what is built in cannot be deleted";
    EditUnsafe = "0723", 422, HumanNeeded, "the file cannot be edited without disturbing it";

    ReplyRefused = "0801", 502, Never, "the source refused the reply";
    ReplyUnavailable = "0802", 503, Backoff, "the source does not answer";
    ReplyTarget = "0803", 422, HumanNeeded, "the address of the reply is not allowed";
    PermissionDenied = "0804", 403, Never, "the actor may not start runs";
    CredentialRefused = "0805", 502, HumanNeeded, "the provider gives no token";
    TokenMissing = "0810", 401, HumanNeeded, "the request needs a valid token";
    ScopeMissing = "0811", 403, HumanNeeded, "the token may not do this";
    Outdated = "0812", 412, HumanNeeded, "the file has changed since it was read";
    KeyReused = "0813", 422, Never, "the idempotency key belongs to another request";
    SealUnreadable = "0814", 422, HumanNeeded, "a sealed secret cannot be opened";

    NotFound = "0901", 404, Never, "nothing of that name exists";
    Usage = "0902", 400, HumanNeeded, "the command or request is not understood";
    Conflict = "0903", 409, Wait, "something else happened first";
    Refused = "0904", 403, HumanNeeded, "this is not allowed";
    TimedOut = "0905", 504, Backoff, "it took too long";
    CopyUnavailable = "0910", 503, Backoff, "a cloud copy does not answer";
    CopyConflict = "0911", 409, HumanNeeded, "a cloud copy holds what this history has not";
    CopyDamaged = "0912", 500, HumanNeeded, "a cloud copy does not hold what it says";
    CopyKey = "0913", 422, HumanNeeded, "the key does not open the cloud copy";
    RestoreDiffers = "0914", 409, HumanNeeded, "the restored files make another index";
    EngineUnsafe = "0920", 422, HumanNeeded, "the database may lose what it has answered";
    EngineNewer = "0921", 500, HumanNeeded, "the database was prepared by a newer version";
    Bug = "0999", 500, HumanNeeded, "skillhook itself has a fault";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a code")))
    }
}
