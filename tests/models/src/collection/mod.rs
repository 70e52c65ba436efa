//! A model of collection beside pushes: the shipped machines of collectors and of sessions
//! (`artifact_store::bucket::collect`), and a bucket that loses answers, executes requests late,
//! and lets leases end.
//!
//! Each request is a step, and every order of the steps is visited. [`world`] holds the bucket and
//! the steps, [`session`] a push, [`search`] visits the states. At each state, everything that a
//! ref or a commit reaches is there, and an acknowledged push was carried through; and where
//! [`world::Config::checks_end`] says so, everybody ends when nothing goes wrong any more, and a
//! last collection leaves no garbage.
//!
//! [`rules`] lists what can be broken. The machines stay as they are: their driver in the model
//! does what the rule forbids. Each of the 25 rules, when broken, has a counter-example;
//! `ARTIFACT_CACHE_EXTRA=1 TRACES=1` with `--no-capture` searches the shortest ones, and prints
//! them. The grace is no rule: these models have none, and collectors may condemn all that there
//! is.
//!
//! The large models need `ARTIFACT_CACHE_EXTRA=1`. Of each, the 2,500,000 nearest states are
//! visited, which is all of some. `MODELS=NAME` visits all states of the models whose names have
//! this part, and `MODELS=` those of all. Of the models with two collectors, one has 882,395 states
//! and checks that everybody ends, and 784,717 states are those with a list that names everything.
//! Where a program dies or a request arrives late, an optimized search of five minutes does not
//! visit them all.

pub mod objects;
pub mod rules;
pub mod search;
pub mod session;
pub mod world;
