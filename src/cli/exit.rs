//! Exit codes: what scripts can rely on, and which one a kind of trouble ends with.

use std::process::ExitCode;

use crate::error::Code;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// There is a difference, something is not ready, or it did not work.
    Difference,
    /// The command line or a file is not valid.
    Usage,
    NotFound,
    Refused,
    TimedOut,
    RemoteAway,
    Bug,
}

impl Exit {
    pub fn number(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Difference => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Refused => 4,
            Exit::TimedOut => 5,
            Exit::RemoteAway => 6,
            Exit::Bug => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.number())
    }
}

impl From<Code> for Exit {
    fn from(code: Code) -> Self {
        match code {
            Code::FrontmatterUnreadable
            | Code::FrontmatterYaml
            | Code::FrontmatterLimit
            | Code::SkillIdentity
            | Code::ConfigField
            | Code::ConfigValue
            | Code::ProviderUnknown
            | Code::EndpointTaken
            | Code::CommandConflict
            | Code::ReferenceMissing
            | Code::SecretReference
            | Code::PlaintextSecret
            | Code::DefinitionInvalid
            | Code::UnsafePath
            | Code::OpenToAnyone
            | Code::TemplateSyntax
            | Code::TemplateForbidden
            | Code::TemplateLimit
            | Code::SettingInvalid
            | Code::NotARepository
            | Code::InsecureBinding
            | Code::BadPayload
            | Code::UnsupportedContent
            | Code::ReplyTarget
            | Code::Usage => Exit::Usage,

            Code::UnknownEndpoint | Code::NotFound => Exit::NotFound,

            Code::DataDirectoryBusy
            | Code::MethodNotAllowed
            | Code::BodyTooLarge
            | Code::NotVerified
            | Code::RateLimited
            | Code::WebhookDisabled
            | Code::PruneHeld
            | Code::NothingToPropose
            | Code::ProposalFailed
            | Code::RollbackRefused
            | Code::StaleAttempt
            | Code::WrongState
            | Code::AgentRefused
            | Code::ReplyRefused
            | Code::PermissionDenied
            | Code::Conflict
            | Code::Refused => Exit::Refused,

            Code::BodyIncomplete | Code::AgentTimeout | Code::TimedOut => Exit::TimedOut,

            Code::ServerAway | Code::RemoteUnavailable | Code::ReplyUnavailable => Exit::RemoteAway,

            Code::TemplateRender
            | Code::ListenFailed
            | Code::SecretMissing
            | Code::NotReady
            | Code::IndexDamaged
            | Code::IndexWrite
            | Code::GitFailed
            | Code::GitBusy
            | Code::RevisionMissing
            | Code::TreeUnreadable
            | Code::LedgerUnavailable
            | Code::LedgerDamaged
            | Code::LedgerNewer
            | Code::AgentMissing
            | Code::AgentFailed
            | Code::AgentLimit
            | Code::WorkspaceFailed => Exit::Difference,

            Code::Bug => Exit::Bug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_trouble_ends_as_if_all_were_well() {
        for code in Code::ALL {
            assert_ne!(Exit::from(*code), Exit::Done, "{code}");
        }
    }

    #[test]
    fn each_number_means_one_thing() {
        let numbers =
            [Code::NotReady, Code::Usage, Code::NotFound, Code::Refused, Code::TimedOut, Code::ServerAway, Code::Bug]
                .map(|code| Exit::from(code).number());
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 70]);
    }
}
