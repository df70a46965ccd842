//! Paths of image layers in a repository of container images.

use crate::path::RootPath;

/// The layer that contains a path of the repository, by the 64 hex digits of its digest, and the path below
/// the layer's root, which is `/.layers/<2>/<digest>/layerfs`.
pub(crate) fn in_layer(path: &RootPath) -> Option<(&[u8], RootPath)> {
    let mut components = path.components();
    let [layers, start, digest, root] = [(); 4].map(|()| components.next());
    let digest = digest.filter(|d| d.len() == 64 && d.iter().all(u8::is_ascii_hexdigit))?;
    let below: Vec<_> = components.collect();
    let below = RootPath::new([b"/", below.join(&b'/').as_slice()].concat()).ok()?;
    let inside = layers == Some(b".layers") && start == digest.get(..2) && root == Some(b"layerfs");
    inside.then_some((digest, below))
}

/// The path in the image of a file in the repository.
pub(crate) fn path_in_image(path: &RootPath) -> Option<RootPath> {
    in_layer(path).map(|(_, below)| below).filter(|below| below.as_bytes() != b"/")
}
