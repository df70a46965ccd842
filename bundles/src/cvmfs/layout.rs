//! Where a repository of container images has what.

use crate::path::RootPath;

/// The path in the image of a path in the repository: what is below `/.layers/<2>/<digest>/layerfs`.
pub(crate) fn in_layer(path: &RootPath) -> Option<RootPath> {
    let mut components = path.components();
    let [layers, _, digest, root] = [(); 4].map(|()| components.next());
    let digest = digest.is_some_and(|d| d.len() == 64 && d.iter().all(u8::is_ascii_hexdigit));
    let inside = layers == Some(b".layers") && digest && root == Some(b"layerfs");
    let rest: Vec<_> = components.collect();
    (inside && !rest.is_empty()).then(|| RootPath::new([b"/", rest.join(&b'/').as_slice()].concat()).ok())?
}
