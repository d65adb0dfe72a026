//! Checks the style of the code base.
