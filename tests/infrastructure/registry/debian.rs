//! Debian's `docker-registry`, as the testbed starts and fills it.

use reqwest::StatusCode;
use testbed::images::MANIFEST_TYPE;
use testbed::registry::Registry;

use super::image;

#[tokio::test]
async fn a_pushed_image_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path(), "1");
    let registry = Registry::start(&directory.path().join("registry")).unwrap();
    let reference = registry.push(&image).await.unwrap();
    assert_eq!(reference, format!("{}/demo/small:1", registry.address()));
    // The second push uploads nothing and succeeds.
    registry.push(&image).await.unwrap();

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: String| {
        let url = format!("http://{}/v2/demo/small/{path}", registry.address());
        client.get(url).header("Accept", MANIFEST_TYPE).send().await.unwrap()
    };
    assert_eq!(get("manifests/1".into()).await.bytes().await.unwrap(), image.manifest);
    assert_eq!(get(format!("blobs/{}", image.config_digest())).await.bytes().await.unwrap(), image.config);
    let layer = &image.layers[0];
    let blob = get(format!("blobs/{}", layer.digest)).await.bytes().await.unwrap();
    assert_eq!(blob, std::fs::read(&layer.blob).unwrap());

    registry.delete_blob(&image, &layer.digest).await.unwrap();
    assert_eq!(get(format!("blobs/{}", layer.digest)).await.status(), StatusCode::NOT_FOUND);
}
