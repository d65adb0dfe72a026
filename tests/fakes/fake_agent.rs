//! A real little agent program for the tests.

fn main() {}
