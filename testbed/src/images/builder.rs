//! Small images from code.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bundles::image::Digest;
use libdeflater::{CompressionLvl, Compressor};
use serde_json::{Value, json};

use super::{CONFIG_TYPE, Image, LAYER_TYPE, Layer, LayerTar, MANIFEST_TYPE};

/// Compression level of the layers: gzip's default.
const GZIP_LEVEL: i32 = 6;

/// Describes an image, layer by layer.
#[derive(Debug)]
pub struct ImageBuilder {
    repository: String,
    tag: String,
    layers: Vec<Source>,
    entrypoint: Vec<String>,
    env: Vec<String>,
    /// The first error of a layer's closure, returned by [`Self::build`].
    failed: Option<anyhow::Error>,
}

#[derive(Debug)]
enum Source {
    Made(Layer),
    Tar(Vec<u8>),
}

impl ImageBuilder {
    /// An image without layers, called `<registry>/<repository>:<tag>`.
    pub fn new(repository: &str, tag: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            layers: Vec::new(),
            entrypoint: Vec::new(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            failed: None,
        }
    }

    /// An image with the tag `1` that starts with these layers.
    pub fn of(repository: &str, layers: impl IntoIterator<Item = Layer>) -> Self {
        layers.into_iter().fold(Self::new(repository, "1"), Self::made_layer)
    }

    /// An image that starts with the layers, the entry point and the environment of `base`.
    pub fn from(base: &Image, repository: &str, tag: &str) -> Result<Self> {
        let config: Value = serde_json::from_slice(&base.config).context("the base image's configuration")?;
        let strings = |key: &str| -> Vec<String> {
            let list = config["config"][key].as_array().into_iter().flatten();
            list.filter_map(|s| s.as_str().map(str::to_owned)).collect()
        };
        let mut builder = Self::new(repository, tag);
        builder.layers = base.layers.iter().cloned().map(Source::Made).collect();
        builder.entrypoint = strings("Entrypoint");
        builder.env = strings("Env");
        Ok(builder)
    }

    /// Puts a layer that is already made on top.
    pub fn made_layer(mut self, layer: Layer) -> Self {
        self.layers.push(Source::Made(layer));
        self
    }

    /// Puts a layer on top; `fill` says what is in it. [`Self::build`] returns its error.
    pub fn layer(mut self, fill: impl FnOnce(&mut LayerTar) -> Result<()>) -> Self {
        let mut tar = LayerTar::new();
        match fill(&mut tar).and_then(|()| tar.finish()) {
            Ok(bytes) => self.layers.push(Source::Tar(bytes)),
            Err(error) => self.failed = self.failed.or(Some(error)),
        }
        self
    }

    /// The command that a container of the image runs.
    pub fn entrypoint<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.entrypoint = command.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Makes the image; its layers go to `cache/blobs`.
    pub fn build(self, cache: &Path) -> Result<Image> {
        let Self { repository, tag, layers, entrypoint, env, failed } = self;
        if let Some(error) = failed {
            return Err(error.context(format!("a layer of {repository}:{tag}")));
        }
        ensure!(!layers.is_empty(), "image {repository}:{tag} has no layer");
        let layers: Vec<Layer> = layers
            .into_iter()
            .map(|source| match source {
                Source::Made(layer) => Ok(layer),
                Source::Tar(tar) => write_layer(&tar, &cache.join("blobs")),
            })
            .collect::<Result<_>>()?;
        let config = serde_json::to_vec(&json!({
            "created": "2025-01-01T00:00:00Z",
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": entrypoint, "Env": env, "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|l| l.diff_id).collect::<Vec<_>>() },
            "history": layers.iter().map(|_| json!({ "created": "2025-01-01T00:00:00Z" })).collect::<Vec<_>>(),
        }))?;
        let descriptors = layers.iter().map(|l| json!({ "mediaType": LAYER_TYPE, "digest": l.digest, "size": l.size }));
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": { "mediaType": CONFIG_TYPE, "digest": Digest::sha256(&config), "size": config.len() },
            "layers": descriptors.collect::<Vec<_>>(),
        }))?;
        Ok(Image { repository, tag, layers, config, manifest })
    }
}

/// Compresses `tar` into `directory`, unless the same layer is there.
pub(super) fn write_layer(tar: &[u8], directory: &Path) -> Result<Layer> {
    let mut compressor = Compressor::new(CompressionLvl::new(GZIP_LEVEL).map_err(|e| anyhow::anyhow!("{e:?}"))?);
    let mut compressed = vec![0; compressor.gzip_compress_bound(tar.len())];
    let size = compressor.gzip_compress(tar, &mut compressed).context("cannot compress a layer")?;
    compressed.truncate(size);
    let digest = Digest::sha256(&compressed);
    let blob = directory.join(format!("{}.tar.gz", digest.hex()));
    if !blob.exists() {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        std::io::Write::write_all(&mut file, &compressed)?;
        file.persist(&blob)?;
    }
    Ok(Layer { blob, digest, diff_id: Digest::sha256(tar), size: size as u64, diff_size: tar.len() as u64 })
}

/// This machine's architecture in the words of the OCI specification.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
