//! The tools through which agents look at and change webhooks, skills and agents, start tasks and speak to providers.
//!
//! An agent talks to `skillhook mcp` over standard streams (`stdio`), which passes each call on to the running service
//! with the token of the run (`grants`). The service knows which task the token was made for, and so with whose
//! authority to answer (`desk`): what a call says of itself counts for nothing. Every write is a change set. No tool
//! shows a secret, and none reaches a file that is not one of a skill, an agent or a provider.

pub mod desk;
pub mod grants;
pub mod stdio;
pub mod tools;
