//! The room as a whole, against real repositories and the real `git` program.

mod commits;
mod forms;
mod kills;
mod left_behind;
mod proposals;
mod pulls;
mod served_trees;
mod transfers;
