//! What the measurements are made with: hellos of three kinds, and a large plant.

#![allow(dead_code, reason = "each program that measures uses its part of it")]

pub(crate) mod hellos;
pub(crate) mod plant;
