//! Images built from code and the static busybox.

use testbed::images::whiteouts;

#[test]
fn an_image_has_the_same_digests_each_time() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = directories.each_ref().map(|directory| whiteouts(directory.path()).unwrap());
    assert_eq!(first.manifest, second.manifest);
    assert_eq!(first.layers.len(), 4);
    assert_eq!(first.chain_id(), second.chain_id());
    assert_eq!(std::fs::read(&first.layers[0].blob).unwrap().len() as u64, first.layers[0].size);
}
