use super::*;
use crate::bundle::{BundleObject, Need, Profile, ProfileSet};
use crate::image::{ChainId, ImageId};
use crate::object::ContentHash;
use crate::trace::import::{Source, import};

const LAYER: &str = "/.layers/ab/abababababababababababababababababababababababababababababababab/layerfs";

fn object(n: usize, path: &[u8]) -> BundleObject {
    let mut digest = [0; 20];
    digest[..8].copy_from_slice(&n.to_le_bytes());
    BundleObject::file(ContentHash::sha1(digest), 1, RootPath::new(path).unwrap())
}

fn in_layer(n: usize, path: &[u8]) -> BundleObject {
    object(n, &[LAYER.as_bytes(), path].concat())
}

fn bundle(objects: Vec<BundleObject>) -> Bundle {
    let manifest = Digest::sha256(b"manifest");
    let image =
        ImageId { chain_id: ChainId(Digest::sha256(b"chain")), manifest: Some(manifest), reference: String::new() };
    Bundle { objects, ..Bundle::new(image, "unpacked.example.org") }
}

/// A bundle with every kind of object.
fn mixed() -> Bundle {
    let chunk = |n| BundleObject { kind: ObjectKind::Chunk, ..in_layer(n, b"/usr/lib/big.so") };
    let need = Need { profiles: ProfileSet::default().and(0), ..Need::always(1) };
    let mut bundle = bundle(vec![
        BundleObject { kind: ObjectKind::Catalog, ..object(0, LAYER.as_bytes()) },
        in_layer(1, b"/usr/bin/python3"),
        chunk(2),
        BundleObject { repository: 1, ..object(3, b"/v6/lib/libCore.so") },
        BundleObject { need, ..in_layer(4, b"/fit.py") },
        chunk(5),
        in_layer(6, "/etc/\u{fc}ber \"x\"".as_bytes()),
        object(7, b"/.flat/ab/x/usr/bin/python3"),
        in_layer(8, b"/latin1-\xfc"),
        in_layer(9, b"/two\nlines"),
        in_layer(10, b"/blank "),
    ]);
    bundle.repositories.push("sft.example.org".into());
    bundle.profiles.push(Profile { name: "fit".into(), traces: 1 });
    bundle
}

fn text(content: &[u8]) -> &str {
    std::str::from_utf8(content).unwrap()
}

#[test]
fn files_are_exported_once_in_order_of_need() {
    let paths =
        |profile| Files::from_bundle(&mixed(), profile).texts(|_| true).0.join(" ").replace(['\n', '\u{fc}'], "_");
    assert_eq!(paths(Some("fit")), "/usr/bin/python3 /usr/lib/big.so /fit.py /etc/_ber \"x\" /two_lines /blank ");
    assert_eq!(paths(None), "/usr/bin/python3 /usr/lib/big.so /etc/_ber \"x\" /two_lines /blank  /fit.py");
    let expected = NotExported { other_repositories: 1, catalogs: 1, outside_layers: 1 };
    assert_eq!(Files::from_bundle(&mixed(), None).not_exported, expected);
    assert_eq!(Files::from_bundle(&mixed(), None).len(), 7);
}

#[test]
fn stargz_files_can_be_imported_again() {
    let exported = stargz(&Files::from_bundle(&mixed(), Some("fit")));
    assert_eq!(exported.inexpressible, 1);
    let first = text(&exported.content).lines().next().unwrap();
    let manifest = Digest::sha256(b"manifest");
    assert_eq!(first, format!("{{\"manifestDigest\":\"{manifest}\",\"path\":\"usr/bin/python3\"}}"));
    let imported = import(Source::Stargz, &exported.content).unwrap();
    let paths: Vec<_> = imported.files.iter().map(|file| file.path.to_string()).collect();
    let expected = ["/usr/bin/python3", "/usr/lib/big.so", "/fit.py", "/etc/\u{fc}ber \"x\"", "/two\nlines", "/blank "];
    assert_eq!(paths, expected);
    assert_eq!(imported.manifest, Some(manifest));
}

#[test]
fn nydus_patterns_are_lines() {
    let exported = nydus(&Files::from_bundle(&mixed(), Some("fit")));
    assert_eq!(text(&exported.content), "/usr/bin/python3\n/usr/lib/big.so\n/fit.py\n/etc/\u{fc}ber \"x\"\n");
    assert_eq!(exported.inexpressible, 3);
}

#[test]
fn soci_files_are_a_json_array() {
    let exported = soci(&Files::from_bundle(&mixed(), Some("fit")));
    let expected = "[\n  \"/usr/bin/python3\",\n  \"/usr/lib/big.so\",\n  \"/fit.py\",\n  \"/etc/\u{fc}ber \\\"x\\\"\",\n  \
                    \"/two\\nlines\"\n]\n";
    assert_eq!(text(&exported.content), expected);
    assert_eq!(exported.inexpressible, 2);
}

#[test]
fn native_bundles_list_paths_beside_their_trigger() {
    let trigger = RootPath::new("/usr/bin/python3").unwrap();
    let made = native(&Files::from_bundle(&mixed(), Some("fit")), &trigger).unwrap();
    assert_eq!((made.files.len(), made.inexpressible), (1, 1));
    assert_eq!(made.files[0].path.to_string(), format!("{LAYER}/usr/bin/.cvmfsbundle-python3"));
    let dependencies: String = ["/usr/lib/big.so", "/fit.py", "/etc/\u{fc}ber \\\"x\\\"", "/two\\nlines", "/blank "]
        .map(|path| format!("    \"{LAYER}{path}\""))
        .join(",\n");
    let expected = format!(
        "{{\n  \"dependencies\": [\n{dependencies}\n  ],\n  \"encoding\": \"UTF-8\",\n  \"name\": \"CVMFS_BUNDLE\",\n  \
         \"version\": \"1.0.0\"\n}}\n"
    );
    assert_eq!(text(&made.files[0].content), expected);

    let absent =
        native(&Files::from_bundle(&mixed(), None), &RootPath::new("/usr/bin/perl").unwrap()).unwrap_err().to_string();
    assert!(absent.contains("/usr/bin/perl"), "{absent}");
}

/// Simulates a client: it opens the files in order; each opened trigger puts its bundle into a queue of 64
/// KiB in pages of 4 KiB; nothing of it is fetched before the container is half through the part before.
#[test]
fn long_lists_become_chains_that_fit_the_queue() {
    for (count, length) in [(249, 20), (251, 20), (3_000, 20), (2_000, 180), (300, 2_000)] {
        let path = |n: usize| format!("/usr/lib/{n:05}{}", "/x".repeat(length / 2));
        let files: Vec<_> = (0..count).map(|n| in_layer(n, path(n).as_bytes())).collect();
        let trigger = RootPath::new(path(0)).unwrap();
        let made = native(&Files::from_bundle(&bundle(files), None), &trigger).unwrap();
        let read = |file: &NativeFile| -> Vec<String> {
            let json: serde_json::Value = serde_json::from_slice(&file.content).unwrap();
            json["dependencies"].as_array().unwrap().iter().map(|d| d.as_str().unwrap().to_owned()).collect()
        };
        let parts: Vec<Vec<String>> = made.files.iter().map(read).collect();
        let listed: Vec<String> = parts.concat();
        let expected: Vec<String> = (1..count).map(|n| format!("{LAYER}{}", path(n))).collect();
        assert_eq!(listed, expected, "{count} of {length}");
        assert_eq!(made.inexpressible, 0);

        let mut opened = format!("{LAYER}{}", path(0));
        for (file, part) in made.files.iter().zip(&parts) {
            let (directory, name) = opened.rsplit_once('/').unwrap();
            assert_eq!(file.path.to_string(), format!("{directory}/.cvmfsbundle-{name}"));
            opened.clone_from(&part[0]);
        }
        for two in parts.windows(2) {
            let (mut pages, mut room) = (0, 0);
            for path in two.concat() {
                let entry = 12 + path.len();
                if entry > room {
                    (pages, room) = (pages + 1, 4096);
                }
                room -= entry;
            }
            assert!(pages <= 16, "{pages} pages for two parts of {count} paths of {length}");
        }
    }
}

#[test]
fn the_likeliest_file_triggers_the_next_part() {
    let rare = Need { share: Share::ratio(1, 2), ..Need::always(2) };
    let objects = (0..600).map(|n| {
        let need = if n % 100 == 7 { Need::always(2) } else { rare };
        BundleObject { need, ..in_layer(n, format!("/f{n}").as_bytes()) }
    });
    let made = native(&Files::from_bundle(&bundle(objects.collect()), None), &RootPath::new("/f0").unwrap()).unwrap();
    let triggers: Vec<_> = made.files.iter().map(|file| file.path.to_string().replace(LAYER, "")).collect();
    assert_eq!(triggers, ["/.cvmfsbundle-f0", "/.cvmfsbundle-f7", "/.cvmfsbundle-f307"]);
}
