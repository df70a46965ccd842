//! Logins, from the files of `docker login` and `podman login`.
//!
//! | Order | File | Written by |
//! |--|--|--|
//! | only this one, if set | `$REGISTRY_AUTH_FILE` | podman, skopeo, buildah |
//! | 1 | `$XDG_RUNTIME_DIR/containers/auth.json` | the same |
//! | 2 | `${XDG_CONFIG_HOME:-~/.config}/containers/auth.json` | the same |
//! | 3 | `${DOCKER_CONFIG:-~/.docker}/config.json` | docker, nerdctl, helm |
//!
//! The first file with a login for the registry is used. A file may name a credential helper (`docker-credential-<name>`), which
//! is run. Source: `containers-auth.json(5)`, docker's `config.json`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;

use super::RegistryError;

/// The key of Docker Hub's login.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A login, and the file it was found in.
#[derive(Debug)]
pub(super) struct Login {
    /// User and password, or anonymous. Its `Debug` shows no password.
    pub(super) auth: RegistryAuth,
    /// The file, unless anonymous.
    pub(super) file: Option<PathBuf>,
}

/// The login for `registry` (host, or host and port). Without one the result is anonymous: many registries
/// can be read so.
pub(super) async fn find(registry: &str) -> Result<Login, RegistryError> {
    let server = if registry == "index.docker.io" { DOCKER_HUB } else { registry }.to_owned();
    // Credential helpers are programs, and may be slow.
    let found = tokio::task::spawn_blocking(move || look(&server, &files(|name| std::env::var_os(name)))).await;
    found.unwrap_or_else(|e| Err(error(registry, Path::new("-"), e.to_string())))
}

/// The files to search, in this order.
fn files(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(only) = set("REGISTRY_AUTH_FILE") {
        return vec![only];
    }
    let home = |below: &str| set("HOME").map(|home| home.join(below));
    [
        set("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
        set("XDG_CONFIG_HOME").or_else(|| home(".config")).map(|directory| directory.join("containers/auth.json")),
        set("DOCKER_CONFIG").or_else(|| home(".docker")).map(|directory| directory.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn look(server: &str, files: &[PathBuf]) -> Result<Login, RegistryError> {
    for path in files {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(|e| error(server, path, e.to_string()))?,
        };
        match get_credential_from_reader(io::BufReader::new(file), server) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(Login { auth: RegistryAuth::Basic(user, password), file: Some(path.clone()) });
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                let reason = "identity tokens are not supported; log in with a user and an access token";
                return Err(error(server, path, reason.to_owned()));
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            // Helpers report a missing login like this, and some report nothing else. Their output may
            // contain secrets.
            Err(CredentialRetrievalError::HelperFailure { helper, stdout, stderr }) => {
                let is_missing = [stdout, stderr].iter().any(|output| output.contains("credentials not found"));
                if !is_missing {
                    return Err(error(server, path, format!("{helper} failed; run it by hand to see why")));
                }
            }
            Err(e) => return Err(error(server, path, e.to_string())),
        }
    }
    Ok(Login { auth: RegistryAuth::Anonymous, file: None })
}

fn error(registry: &str, file: &Path, reason: String) -> RegistryError {
    RegistryError::Login { registry: registry.to_owned(), file: file.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_podman_and_docker() {
        type Set<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Set<'_>, &[&str]); 4] = [
            (&[("HOME", "/h")], &["/h/.config/containers/auth.json", "/h/.docker/config.json"]),
            (
                &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("DOCKER_CONFIG", "/d")],
                &["/r/containers/auth.json", "/h/.config/containers/auth.json", "/d/config.json"],
            ),
            (&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json")], &["/a.json"]),
            (&[("XDG_CONFIG_HOME", ""), ("HOME", "")], &[]),
        ];
        for (set, expected) in cases {
            let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(*value));
            assert_eq!(files(variable), expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{set:?}");
        }
    }

    #[test]
    fn the_first_file_with_a_login_counts_and_no_error_shows_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let auth = |user: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(format!("{user}:secret"))
        };
        let one = file("one", &format!(r#"{{"auths":{{"r.example:5000":{{"auth":"{}"}}}}}}"#, auth("one")));
        let two = file("two", &format!(r#"{{"auths":{{"r.example":{{"auth":"{}"}}}}}}"#, auth("two")));
        let hub = file("hub", &format!(r#"{{"auths":{{"{DOCKER_HUB}":{{"auth":"{}"}}}}}}"#, auth("hub")));
        let token = file("token", r#"{"auths":{"r.example":{"identitytoken":"secret"}}}"#);
        let broken = file("broken", r#"{"auths":{"r.example":{"auth":"secret!"}}}"#);
        let no_json = file("no_json", r#"{"auths":{"r.example":"secret"}"#);
        let helper = file("helper", r#"{"credHelpers":{"r.example":"cvmfs-prefetch-is-not-there"}}"#);
        let absent = directory.path().join("absent");

        let all = [absent.clone(), one.clone(), two.clone(), hub.clone()];
        for (server, user) in [("r.example:5000", "one"), ("r.example", "two"), (DOCKER_HUB, "hub")] {
            let login = look(server, &all).unwrap();
            assert_eq!(login.auth, RegistryAuth::Basic(user.into(), "secret".into()), "{server}");
            assert!(!format!("{login:?}").contains("secret"), "{login:?}");
        }
        assert_eq!(look("elsewhere.example", &all).unwrap().auth, RegistryAuth::Anonymous);
        for (path, said) in [(&token, "identity token"), (&broken, "decode"), (&no_json, "config"), (&helper, "helper")]
        {
            let error = look("r.example", &[path.clone(), two.clone()]).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(path.to_str().unwrap()), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
