//! What a registry says of an image: manifest and configuration, lists of artifacts, and where such a list goes on.
#![no_main]

use bundles::registry::artifact::{BUNDLE_TYPE, Descriptor, Manifest};
use bundles::registry::{image, listed, next_page};
use bundles::publish::with_entry;
use url::Url;

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn bundle() -> Descriptor {
    let (media_type, artifact_type) = (String::new(), Some(BUNDLE_TYPE.to_owned()));
    Descriptor { media_type, digest: DIGEST.to_owned(), size: 0, artifact_type, annotations: Default::default() }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, input)) = input.split_first() else { return };
    match how & 3 {
        0 => {
            let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
            let (manifest, configuration) = input.split_at(end);
            let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else { return };
            let layers: Vec<_> = manifest.layers.iter().map(|layer| (layer.digest.as_str(), layer.size)).collect();
            if let Ok(image) = image("r/i:t", DIGEST, &layers, configuration) {
                assert_eq!((image.layers.len(), image.layer_sizes.len()), (layers.len(), layers.len()));
            }
        }
        1 => {
            let bundles = listed(input, BUNDLE_TYPE).unwrap_or_default();
            assert!(bundles.iter().all(|bundle| bundle.artifact_type.as_deref() == Some(BUNDLE_TYPE)));
        }
        2 => {
            let Ok((index, _)) = with_entry(Some(input), &bundle()) else { return };
            // What others wrote may not be ours to understand.
            if let Ok(bundles) = listed(&index, BUNDLE_TYPE) {
                assert_eq!(bundles, [bundle()]);
            }
            assert_eq!(with_entry(Some(&index), &bundle()).expect("it was written"), (index, 0));
        }
        _ => {
            let url = Url::parse("https://r.example/v2/i/referrers/x").expect("it is a URL");
            if let Some(next) = std::str::from_utf8(input).ok().and_then(|link| next_page(link, &url)) {
                assert_eq!(next.origin(), url.origin());
            }
        }
    }
});
