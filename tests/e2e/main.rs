//! The end-to-end tests: each against a running site, or against what the real CVMFS server wrote.

mod fixture;
