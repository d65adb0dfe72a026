//! Webhook senders as data: the engine that reads definitions in the schema `skillhook.provider/v1`.
//!
//! A [`Definition`] says how a sender's requests are verified, what they mean and how to answer at the source. In the
//! order of a request: [`challenge`] answers handshakes, [`verify()`] says who sends, [`decode()`] reads the body,
//! [`extract()`] tells what happened, and [`ack_call`], [`reply_call`] and [`lookup_call`] prepare what is called
//! later, which [`PreparedCall::fill`] completes.
//!
//! Everything is pure: no call is made here, no key fetched, no clock read. A definition cannot run code, and its
//! checks keep credentials away from addresses that a payload chooses.

mod actor;
mod address;
mod call;
pub mod catalog;
mod challenge;
mod cloudevents;
mod condition;
mod credential;
mod decode;
mod definition;
mod destinations;
mod digests;
mod extract;
pub mod facts;
mod filter;
mod form;
pub mod fuzz;
mod incoming;
mod json_template;
mod lint;
mod markup;
mod multipart;
mod operations;
mod plain;
mod pointer;
mod prepared;
mod proposal;
mod reply;
mod repository;
pub mod sample;
pub mod schema;
mod selector;
mod settings;
mod split;
mod template;
mod verify;
mod view;

#[cfg(test)]
mod call_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod primitive_tests;

pub use address::must_be_encrypted;
pub use call::{ack_call, ack_response, enrich_calls, lookup_call, reply_call, spoken_response};
pub use challenge::{Handshake, Response, challenge};
pub use credential::{InForce, PreparedApp, PreparedCredential, Unfinished};
pub use decode::{DEPTH_MAX, Payload, decode};
pub use definition::{Catalogue, Definition, FILE_BYTES_MAX, INLINE_SECTIONS};
pub use destinations::{Operated, check as check_destinations};
pub use digests::hmac_sha256;
pub use extract::{Delivered, ITEMS_MAX, Item, SourceText, UNKNOWN_EVENT, extract, repetition};
pub use incoming::{Headers, Incoming};
pub use markup::render;
pub use operations::{Allowed, Offered, bound};
pub use plain::of as plain_text;
pub use pointer::Pointer;
pub use prepared::{
    FilledCall, Hole, Piece, Place, PreparedBody, PreparedCall, PreparedLookup, PreparedSuccess, Spaced,
};
pub use proposal::{PreparedProposals, Review, ReviewState};
pub use reply::{Limits, PreparedFind, ReplyTraits, Standing};
pub use repository::{GitCredential, checkout, is_reference};
pub use schema::Format;
pub use schema::calls::{MarkerKind, Overflow};
pub use schema::proposals::MarkState;
pub use settings::Settings;
pub use split::{MESSAGES_MAX, split, truncate};
pub use verify::{FetchedKeys, KeyRequest, Proof, Refusal, Verdict, verify};
