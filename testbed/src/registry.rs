//! An image registry: Debian's `docker-registry` on a loopback port, filled through its API.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bundles::image::Digest;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};

use crate::images::{Image, MANIFEST_TYPE};
use crate::process::Daemon;

/// The registry's log message, with the port that the kernel chose, when it accepts connections.
const LISTENING: &str = "listening on ";

/// User and password of a registry that requires a login.
pub const LOGIN: (&str, &str) = ("publisher", "right-horse");
/// The same as an htpasswd line; `docker-registry` accepts only bcrypt.
const HTPASSWD: &str = "publisher:$2b$05$abcdefghijklmnopqrstuukAGqk1114ICnhl6dLOh9a3Ti/e0h/ma\n";

/// A running registry; stops when dropped. Pushed images stay in its directory.
#[derive(Debug)]
pub struct Registry {
    address: String,
    client: Client,
    _daemon: Daemon,
}

impl Registry {
    /// Starts a registry that keeps everything in `directory`.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, "", HeaderMap::new())
    }

    /// Starts a registry that requires the login [`LOGIN`].
    pub fn start_with_login(directory: &Path) -> Result<Self> {
        use base64::Engine;
        fs::create_dir_all(directory)?;
        let htpasswd = directory.join("htpasswd");
        fs::write(&htpasswd, HTPASSWD)?;
        let auth = format!("auth: {{htpasswd: {{realm: testbed, path: {}}}}}\n", serde_json::to_string(&htpasswd)?);
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", LOGIN.0, LOGIN.1));
        let header = HeaderValue::try_from(format!("Basic {login}"))?;
        Self::start_with(directory, &auth, [(AUTHORIZATION, header)].into_iter().collect())
    }

    fn start_with(directory: &Path, configured: &str, headers: HeaderMap) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let log = directory.join("registry.log");
        if log.exists() {
            fs::remove_file(&log)?;
        }
        let configuration = directory.join("config.yml");
        let storage = directory.join("storage");
        fs::write(
            &configuration,
            format!(
                "version: 0.1\n\
                 log: {{level: info, formatter: json}}\n\
                 storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
                 http: {{addr: \"127.0.0.1:0\"}}\n{configured}",
                serde_json::to_string(&storage)?
            ),
        )?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&configuration);
        let mut daemon = Daemon::start("registry", &mut command, directory)?;
        let mut address = None;
        daemon.wait_until("listening", Duration::from_secs(20), || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            address = listening_address(&text);
            address.is_some()
        })?;
        let address = address.context("the registry did not say where it listens")?;
        Ok(Self { address, client: Client::builder().no_proxy().default_headers(headers).build()?, _daemon: daemon })
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Uploads the missing parts of `image`; returns the reference for pulling it.
    pub async fn push(&self, image: &Image) -> Result<String> {
        let reference = image.reference(&self.address);
        for layer in &image.layers {
            self.push_blob(image, &layer.digest, || Ok(fs::read(&layer.blob)?)).await?;
        }
        self.push_blob(image, &image.config_digest(), || Ok(image.config.clone())).await?;
        let request = self
            .client
            .put(self.url(&format!("{}/manifests/{}", image.repository, image.tag))?)
            .header(CONTENT_TYPE, MANIFEST_TYPE)
            .body(image.manifest.clone());
        expect(request.send().await?, StatusCode::CREATED).await.with_context(|| format!("manifest of {reference}"))?;
        Ok(reference)
    }

    /// Removes a layer's blob, as if the registry had lost it.
    pub async fn delete_blob(&self, image: &Image, digest: &Digest) -> Result<()> {
        let url = self.url(&format!("{}/blobs/{digest}", image.repository))?;
        expect(self.client.delete(url).send().await?, StatusCode::ACCEPTED).await.map(drop)
    }

    async fn push_blob(&self, image: &Image, digest: &Digest, content: impl Fn() -> Result<Vec<u8>>) -> Result<()> {
        let there = self.client.head(self.url(&format!("{}/blobs/{digest}", image.repository))?).send().await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let begun = self.client.post(self.url(&format!("{}/blobs/uploads/", image.repository))?).send().await?;
        let begun = expect(begun, StatusCode::ACCEPTED).await?;
        let location = begun.headers().get(LOCATION).context("the registry named no place for an upload")?.to_str()?;
        let mut url = begun.url().join(location)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let request = self.client.put(url).header(CONTENT_TYPE, "application/octet-stream").body(content()?);
        expect(request.send().await?, StatusCode::CREATED).await.with_context(|| format!("blob {digest}"))?;
        Ok(())
    }

    fn url(&self, path: &str) -> Result<Url> {
        Ok(Url::parse(&format!("http://{}/v2/{path}", self.address))?)
    }
}

async fn expect(response: Response, status: StatusCode) -> Result<Response> {
    let (found, url) = (response.status(), response.url().clone());
    if found != status {
        bail!("the registry answered {found} for {url}, expected {status}: {}", response.text().await?);
    }
    Ok(response)
}

/// The address in the registry's log (JSON lines).
fn listening_address(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["msg"].as_str()?.strip_prefix(LISTENING)?.split(',').next()?.to_owned())
    })
}
