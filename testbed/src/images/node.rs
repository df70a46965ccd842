//! A web service in Node.js, with Debian's Express.

use std::path::Path;

use anyhow::Result;

use super::{Image, ImageBuilder, debian};

/// The image `demo/node:1`. Its program takes a port, answers one request there, and exits.
pub fn node(cache: &Path) -> Result<Image> {
    ImageBuilder::of("demo/node", debian::layers(cache, "node", &["nodejs", "node-express"])?)
        .layer(|tar| {
            tar.dir("opt", 0o755)?;
            tar.dir("opt/app", 0o755)?;
            tar.file("opt/app/server.js", 0o644, include_str!("app/server.js"))
        })
        .entrypoint(["node", "/opt/app/server.js"])
        .build(cache)
}
