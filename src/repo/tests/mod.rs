//! The room as a whole, against real repositories and the real `git` program.

mod both_ways;
mod branches;
mod commits;
mod forms;
mod interleavings;
mod kills;
mod left_behind;
mod power;
mod pulls;
mod served_trees;
mod transfers;
mod versions;
