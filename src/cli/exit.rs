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

/// Which code ends in which exit; a code that is missing here does not compile.
macro_rules! exits {
    ($($exit:ident: $($code:ident)*;)*) => {
        impl From<Code> for Exit {
            fn from(code: Code) -> Self {
                match code { $($(Code::$code)|* => Exit::$exit,)* }
            }
        }
    };
}

exits! {
    Usage:
        FrontmatterUnreadable FrontmatterYaml FrontmatterLimit SkillIdentity ConfigField ConfigValue
        ProviderUnknown EndpointTaken CommandConflict ReferenceMissing SecretReference PlaintextSecret
        DefinitionInvalid UnsafePath OpenToAnyone TemplateSyntax TemplateForbidden TemplateLimit SettingInvalid
        NotARepository InsecureBinding EngineUnsafe BadPayload UnsupportedContent ReplyTarget CopyKey KeyReused SealUnreadable
        ChangeInvalid EditUnsafe Usage;
    NotFound:
        UnknownEndpoint NotFound;
    Refused:
        DataDirectoryBusy MethodNotAllowed BodyTooLarge NotVerified RateLimited WebhookDisabled PruneHeld
        NothingToPropose ProposalFailed RollbackRefused
        StaleAttempt WrongState AgentRefused ReplyRefused CredentialRefused PermissionDenied TokenMissing ScopeMissing Outdated
        BudgetSpent ApprovalRefused ApprovalVoid
        CopyConflict Conflict StillReferenced BuiltinStays Refused;
    TimedOut:
        BodyIncomplete AgentTimeout TimedOut;
    RemoteAway:
        ServerAway RemoteUnavailable ReplyUnavailable CopyUnavailable;
    Difference:
        TemplateRender ListenFailed SecretMissing NotReady IndexDamaged IndexWrite GitFailed GitBusy
        RevisionMissing TreeUnreadable LedgerUnavailable LedgerDamaged LedgerNewer AgentMissing AgentFailed
        AgentLimit CheckoutFailed WorkspaceFailed CopyDamaged RestoreDiffers EngineNewer;
    Bug:
        Bug;
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
