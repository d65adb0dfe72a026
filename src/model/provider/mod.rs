//! Stand-in until the provider engine lands.

use serde::{Deserialize, Serialize};

/// A call to a provider with everything from the delivery filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedCall {}

/// A permission look-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedLookup {}
