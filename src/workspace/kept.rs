//! What stays in a workspace between the runs of a conversation, and what may be asked of it: the agent program's record
//! of its session, the files that a run leaves for later ones, and the agents as they were laid out.

use std::io;

use rustix::fs::FileType;

use super::{CONFIG, WORK, Workspaces, ensure, name_of};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::check::{AgentFile, check_agent};
use crate::model::frontmatter;
use crate::model::ids::AgentName;
use crate::repo::Directory;

/// Below the program's own directory: one directory for each working directory, in it one file a session.
const SESSIONS: &str = "projects";
/// Longest record of a session that is kept elsewhere too; a longer one stays on this machine.
pub const TRANSCRIPT_BYTES_MAX: u64 = 32 * 1024 * 1024;
const AGENT_BYTES_MAX: u64 = 256 * 1024;

impl Workspaces {
    /// What the file of an agent says, in the workspace that was prepared last for this conversation; `None` if it has
    /// no such agent.
    pub fn agent(&self, conversation_id: &str, name: &AgentName) -> Result<Option<AgentFile>> {
        let failed = "the agents of the workspace cannot be read";
        let place = self.place(conversation_id).context(Code::WorkspaceFailed, failed)?;
        let path = format!(".claude/agents/{name}.md");
        let work = place.enter(WORK).context(Code::WorkspaceFailed, failed)?;
        let bytes = match work.read(&path, AGENT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(Code::WorkspaceFailed, failed),
        };
        let file = frontmatter::split(&path, &bytes).and_then(|document| check_agent(&path, name, &document));
        file.map(Some)
            .map_err(|_| Error::new(Code::WorkspaceFailed, format!("the file of the agent `{name}` is not valid")))
    }

    /// The program's record of a session; `None` where there is none, or it is too long to be carried about.
    pub fn transcript(&self, conversation_id: &str, session_id: &str) -> io::Result<Option<Vec<u8>>> {
        let file = session_file(session_id)?;
        let Ok(sessions) = self.place(conversation_id).and_then(|place| place.enter(CONFIG)?.enter(SESSIONS)) else {
            return Ok(None);
        };
        for (name, kind) in sessions.list()? {
            if kind != FileType::Directory {
                continue;
            }
            match sessions.enter(&name)?.read(&file, TRANSCRIPT_BYTES_MAX) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Puts a record that was kept elsewhere where the program looks for it.
    pub fn restore_transcript(&self, conversation_id: &str, session_id: &str, content: &[u8]) -> io::Result<()> {
        let file = session_file(session_id)?;
        let config = ensure(&self.place(conversation_id)?, CONFIG)?;
        let work = self.directory().join(name_of(conversation_id)).join(WORK);
        // So the program names a directory: whatever is neither letter nor digit becomes a dash.
        let slug: String =
            work.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let sessions = ensure(&ensure(&config, SESSIONS)?, &slug)?;
        sessions.remove_all(&file)?;
        sessions.create_file(&file, content, 0o600).map(|_| ())
    }

    /// Leaves a file for later runs of the conversation, in place of an earlier one of that name.
    pub fn leave(&self, conversation_id: &str, name: &str, text: &str) -> io::Result<()> {
        let work = self.place(conversation_id)?.enter(WORK)?;
        work.remove_all(name)?;
        work.create_file(name, text.as_bytes(), 0o644).map(|_| ())
    }

    fn place(&self, conversation_id: &str) -> io::Result<Directory> {
        Directory::open(self.directory())?.enter(name_of(conversation_id))
    }
}

/// Ids of sessions come from the program's output: only such as are ids become a path.
fn session_file(session_id: &str) -> io::Result<String> {
    match uuid::Uuid::parse_str(session_id) {
        Ok(id) => Ok(format!("{id}.jsonl")),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
    }
}
