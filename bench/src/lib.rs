//! Benchmarks of the whole: what a person waits for, beside what they have
//! today, in one run on one machine.
//!
//! Owns samples, their quantiles and the report. It measures release binaries
//! only, and prints ratios rather than promises about other machines.
#![forbid(unsafe_code)]

pub mod deployment;
pub mod due;
pub mod engine_api;
pub mod samples;
