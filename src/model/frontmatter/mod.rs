//! The head of a SKILL.md, agent file or provider file: where it stands, and what its YAML says.
//!
//! [`split`] finds the fences by a guard of our own, because positions must be true: the YAML parser gets the very
//! lines of the file. gray_matter splits the same text and must agree, so that a file which the ecosystem's tools read
//! differently is refused rather than guessed at. [`Fields`] is the YAML: refused are anchors, aliases, tags, merge
//! keys and duplicate keys, and every error carries the line and column of the file and the path of the field.
//!
//! It deliberately does not know a single field, and it never writes YAML.

mod key_path;
mod refused;
mod seek;
mod split;
mod trouble;
mod yaml;

pub use key_path::{KeyPath, Step};
pub use split::{BRACKETS_OPEN_MAX, Block, Document, FILE_BYTES_MAX, FRONTMATTER_BYTES_MAX, split};
pub use yaml::Fields;
