use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use bundles::bundle::Bundle;
use testbed::registry::{LOGIN, Registry};

use super::fake::FakeRegistry;
use super::{bundle, cli, image};

/// A configuration file like that of `docker login`, in its own directory.
fn logged_in(directory: &Path, name: &str, registry: &str, password: &str) -> PathBuf {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", LOGIN.0));
    let path = directory.join(name);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("config.json"), format!(r#"{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    path
}

/// A credential helper for docker, and a configuration with it.
fn helper(directory: &Path, registry: &str) -> (PathBuf, PathBuf) {
    let program = directory.join("bin/docker-credential-testbed");
    let configuration = directory.join("helper");
    fs::create_dir_all(directory.join("bin")).unwrap();
    fs::create_dir_all(&configuration).unwrap();
    let (user, password) = LOGIN;
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {registry} ] || exit 1\n\
         echo '{{\"Username\":\"{user}\",\"Secret\":\"{password}\"}}'\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(configuration.join("config.json"), format!(r#"{{"credHelpers":{{"{registry}":"testbed"}}}}"#)).unwrap();
    (configuration, directory.join("bin"))
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_docker_and_podman_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let registry = Registry::start_with_login(&at.join("registry")).unwrap();
    let image = image(at, "1");
    let reference = registry.push(&image).await.unwrap();
    let (file, fetched) = (at.join("image.bundle"), at.join("fetched.bundle"));
    bundle(&image, &reference, 1).write(&file).unwrap();
    let publish = ["bundle", "push", file.to_str().unwrap(), "--registry", "--plain-http"];
    let fetch = ["bundle", "pull", &reference, "-o", fetched.to_str().unwrap(), "--plain-http"];

    let right = logged_in(at, "right", registry.address(), LOGIN.1);
    let wrong = logged_in(at, "wrong", registry.address(), "wrong-horse");
    let elsewhere = logged_in(at, "elsewhere", "registry.example.org", LOGIN.1);
    let (helped, bin) = helper(at, registry.address());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let (path, auth_file) = (Path::new(&path), right.join("config.json"));

    for arguments in [&publish[..], &fetch[..]] {
        for (environment, message) in [
            (vec![("DOCKER_CONFIG", wrong.as_path())], wrong.to_str().unwrap()),
            (vec![("DOCKER_CONFIG", elsewhere.as_path())], "without a login"),
            (vec![], "without a login"),
            (vec![("REGISTRY_AUTH_FILE", auth_file.as_path()), ("DOCKER_CONFIG", wrong.as_path())], ""),
            (vec![("DOCKER_CONFIG", helped.as_path()), ("PATH", path)], ""),
            (vec![("DOCKER_CONFIG", right.as_path())], ""),
        ] {
            let (succeeded, output) = cli(at, &environment, arguments).await;
            assert_eq!(succeeded, message.is_empty(), "{environment:?}: {output}");
            assert!(succeeded || output.contains("log in with") && output.contains(message), "{output}");
            let secrets = [LOGIN.1, "wrong-horse", &base64::engine::general_purpose::STANDARD.encode("publisher:")];
            assert!(secrets.iter().all(|secret| !output.contains(secret)), "a secret was printed: {output}");
        }
    }
    assert_eq!(Bundle::read(&fetched).unwrap(), Bundle::read(&file).unwrap());
}

/// Today's registries require tokens, given for reading to everybody, for writing to logged-in users.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_requested_from_a_registry_with_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let registry = FakeRegistry::start().await;
    registry.require_tokens();
    let image = image(at, "1");
    let reference = registry.add(&image);
    let (file, fetched) = (at.join("image.bundle"), at.join("fetched.bundle"));
    bundle(&image, &reference, 1).write(&file).unwrap();
    let publish = ["bundle", "push", file.to_str().unwrap(), "--registry", &reference, "--plain-http"];
    let fetch = ["bundle", "pull", &reference, "-o", fetched.to_str().unwrap(), "--plain-http"];
    let right = logged_in(at, "right", registry.address(), LOGIN.1);
    let wrong = logged_in(at, "wrong", registry.address(), "wrong-horse");

    let (succeeded, output) = cli(at, &[], &fetch).await;
    assert!(!succeeded && output.contains("there is no bundle beside"), "{output}");
    for (environment, arguments, succeeds) in [
        (vec![], publish.as_slice(), false),
        (vec![("DOCKER_CONFIG", wrong.as_path())], &publish, false),
        (vec![("DOCKER_CONFIG", right.as_path())], &publish, true),
        (vec![], &fetch, true),
    ] {
        let (succeeded, output) = cli(at, &environment, arguments).await;
        assert_eq!(succeeded, succeeds, "{environment:?} {arguments:?}: {output}");
        assert!(succeeded || output.contains("log in with"), "{output}");
        let secrets = [LOGIN.1, "wrong-horse", "token-to-pull", "token-to-push"];
        assert!(secrets.iter().all(|secret| !output.contains(secret)), "a secret was printed: {output}");
    }
    assert_eq!(Bundle::read(&fetched).unwrap(), Bundle::read(&file).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_upload_is_sent_without_the_login() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (registry, store) = (FakeRegistry::start().await, FakeRegistry::start().await);
    registry.require_tokens();
    registry.upload_to(&store);
    let image = image(at, "1");
    let reference = registry.add(&image);
    let file = at.join("image.bundle");
    bundle(&image, &reference, 1).write(&file).unwrap();
    let right = logged_in(at, "right", registry.address(), LOGIN.1);
    let publish = ["bundle", "push", file.to_str().unwrap(), "--registry", &reference, "--plain-http"];
    let (succeeded, output) = cli(at, &[("DOCKER_CONFIG", right.as_path())], &publish).await;
    assert!(succeeded, "{output}");
    let uploaded = bundles::image::Digest::sha256(&fs::read(&file).unwrap()).to_string();
    assert_eq!(store.blob(&uploaded), fs::read(&file).unwrap());
    assert!(store.authorizations().iter().all(Option::is_none), "the login was sent elsewhere");
}
