//! Tests of whole verdicts, on sites that are written by hand.

mod devices;
mod learn;
mod model;
mod names;
mod outcomes;
mod support;
