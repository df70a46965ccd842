//! Crashes at random moments with active clients. Afterwards, every acknowledged call has had its effect, a call without an answer
//! has had its full effect or none, and nothing else is there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bundles::image::Digest;
use containerd_snapshots::tonic::Code;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::crowd::check_consistent;
use crate::mounted::Mounted;
use crate::process::{Client, Snapshotter};

const CRASHES: usize = 200;
const CLIENTS: usize = 6;
/// With this many snapshots, a client removes some.
const MANY: usize = 12;
const COMMITTED: i32 = 3;
const ACTIVE: i32 = 2;
const VIEW: i32 = 1;
const REFERENCE: &str = "containerd.io/snapshot.ref";

/// A snapshot as its client expects it.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    kind: i32,
    parent: String,
    label: String,
}

/// A call of a client.
#[derive(Debug, Clone)]
enum Call {
    Create {
        key: String,
        known: Known,
    },
    Commit {
        key: String,
        name: String,
    },
    Remove {
        key: String,
    },
    Label {
        key: String,
        label: String,
    },
    /// Prepare of a published layer: creates a committed snapshot with this reference and some name.
    Publish {
        reference: String,
    },
}

/// The expected snapshots of a client, and its last call if that got no answer.
#[derive(Debug)]
struct Model {
    prefix: String,
    snapshots: BTreeMap<String, Known>,
    published: Vec<String>,
    pending: Option<Call>,
    number: usize,
    random: StdRng,
}

impl Model {
    fn new(client: usize, seed: u64) -> Self {
        Self {
            prefix: format!("client{client}/"),
            snapshots: BTreeMap::new(),
            published: Vec::new(),
            pending: None,
            number: 0,
            random: StdRng::seed_from_u64(seed.wrapping_add(client as u64)),
        }
    }

    fn of_kind(&self, kind: i32) -> Vec<String> {
        self.snapshots.iter().filter(|(_, known)| known.kind == kind).map(|(name, _)| name.clone()).collect()
    }

    fn leaves(&self) -> Vec<String> {
        let is_parent = |name: &String| self.snapshots.values().any(|known| known.parent == *name);
        self.snapshots.keys().filter(|name| !is_parent(name)).cloned().collect()
    }

    fn new_name(&mut self, what: &str) -> String {
        self.number += 1;
        format!("{}{what}-{}", self.prefix, self.number)
    }

    /// A random call that must succeed.
    fn choose(&mut self) -> Call {
        let dice = self.random.random_range(0..100);
        let some = |names: Vec<String>, random: &mut StdRng| names.choose(random).cloned();
        if (self.snapshots.len() >= MANY || dice < 20)
            && let Some(key) = some(self.leaves(), &mut self.random)
        {
            return Call::Remove { key };
        }
        if dice < 50
            && let Some(key) = some(self.of_kind(ACTIVE), &mut self.random)
        {
            return Call::Commit { key, name: self.new_name("layer") };
        }
        if dice < 60
            && let Some(key) = some(self.snapshots.keys().cloned().collect(), &mut self.random)
        {
            return Call::Label { key, label: self.random.random::<u32>().to_string() };
        }
        if dice < 70 {
            return Call::Publish { reference: self.new_name("sha256:") };
        }
        let parent = some(self.of_kind(COMMITTED), &mut self.random).filter(|_| dice % 2 == 0).unwrap_or_default();
        let kind = if dice < 75 { VIEW } else { ACTIVE };
        Call::Create { key: self.new_name("key"), known: Known { kind, parent, label: "new".to_owned() } }
    }

    /// Applies the effect of a call.
    fn apply(&mut self, call: Call) {
        match call {
            Call::Create { key, known } => drop(self.snapshots.insert(key, known)),
            Call::Commit { key, name } => {
                let known = self.snapshots.remove(&key).unwrap();
                self.snapshots.insert(name, Known { kind: COMMITTED, label: "committed".to_owned(), ..known });
            }
            Call::Remove { key } => drop(self.snapshots.remove(&key)),
            Call::Label { key, label } => self.snapshots.get_mut(&key).unwrap().label = label,
            Call::Publish { reference } => self.published.push(reference),
        }
    }

    /// Whether the snapshots found show the effect of this call.
    fn shows(&self, call: &Call, found: &BTreeMap<String, Known>, references: &[String]) -> bool {
        match call {
            Call::Create { key, .. } => found.contains_key(key),
            Call::Commit { name, .. } => found.contains_key(name),
            Call::Remove { key } => !found.contains_key(key),
            Call::Label { key, label } => found[key].label == *label,
            Call::Publish { reference } => references.contains(reference),
        }
    }
}

async fn send(client: &mut Client, call: &Call, layer: &str) -> Result<(), Code> {
    match call {
        Call::Create { key, known: Known { kind: VIEW, parent, label } } => {
            client.view_with(key, parent, &[("label", label)]).await.map(drop)
        }
        Call::Create { key, known } => client.prepare(key, &known.parent, &[("label", &known.label)]).await.map(drop),
        Call::Commit { key, name } => client.commit(key, name, &[("label", "committed")]).await,
        Call::Remove { key } => client.remove(key).await,
        Call::Label { key, label } => {
            let mut info = client.stat(key).await?;
            info.labels.insert("label".to_owned(), label.clone());
            client.update(info, &["labels.label"]).await.map(drop)
        }
        Call::Publish { reference } => {
            let labels = [(REFERENCE, reference.as_str()), ("containerd.io/snapshot/cri.layer-digest", layer)];
            match client.prepare(&format!("extract-{reference}"), "", &labels).await {
                Err(Code::AlreadyExists) => Ok(()),
                Err(code) => Err(code),
                Ok(mounts) => panic!("the published layer would be unpacked: {mounts:?}"),
            }
        }
    }
}

/// Makes calls until the snapshotter is killed.
async fn work(mut client: Client, mut model: Model, layer: String) -> Model {
    loop {
        let call = model.choose();
        match send(&mut client, &call, &layer).await {
            Ok(()) => model.apply(call),
            // Internal: the disk is full.
            Err(Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal) => {
                model.pending = Some(call);
                return model;
            }
            Err(code) => panic!("{call:?}: {code:?}"),
        }
    }
}

/// Compares what each client expects with what is there.
async fn check(snapshotter: &Snapshotter, models: &mut [Model]) {
    let infos = check_consistent(snapshotter, &mut snapshotter.connect().await).await;
    let label = |info: &containerd_snapshots::api::snapshots::v1::Info, name| {
        info.labels.get(name).cloned().unwrap_or_default()
    };
    let mut count = 0;
    for model in models {
        let found: BTreeMap<_, _> = infos
            .iter()
            .filter(|info| info.name.starts_with(&model.prefix))
            .map(|info| {
                let known = Known { kind: info.kind, parent: info.parent.clone(), label: label(info, "label") };
                (info.name.clone(), known)
            })
            .collect();
        let mut references: Vec<_> =
            infos.iter().map(|info| label(info, REFERENCE)).filter(|name| name.starts_with(&model.prefix)).collect();
        if let Some(call) = model.pending.take()
            && model.shows(&call, &found, &references)
        {
            model.apply(call);
        }
        assert_eq!(found, model.snapshots, "{}", snapshotter.log());
        references.sort();
        model.published.sort();
        assert_eq!(references, model.published);
        count += found.len() + references.len();
    }
    assert_eq!(count, infos.len(), "there are snapshots that no client made: {infos:?}");
}

/// A file that fills the file system of the root for a while.
struct Filler(PathBuf);

impl Filler {
    fn fill(&self) {
        let mut file = fs::File::create(&self.0).unwrap();
        while file.write_all(&[0; 64 << 10]).is_ok() {}
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn remove(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Kills the snapshotter at random moments. Before every other kill, `filler` has filled the disk.
async fn crash_repeatedly(snapshotter: &mut Snapshotter, crashes: usize, filler: Option<Filler>) {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let layer = Digest::sha256(b"layer");
    let layerfs = format!("repository/.layers/{}/{}/layerfs", &layer.hex()[..2], layer.hex());
    fs::create_dir_all(snapshotter.path(&layerfs)).unwrap();
    for name in ["a", ".wh.b"] {
        fs::write(snapshotter.path(&layerfs).join(name), "").unwrap();
    }
    let mut models: Vec<_> = (0..CLIENTS).map(|client| Model::new(client, seed)).collect();
    let mut acknowledged = 0;
    for crash in 0..crashes {
        let mut tasks = Vec::new();
        for model in models.drain(..) {
            tasks.push(tokio::spawn(work(snapshotter.connect().await, model, layer.to_string())));
        }
        tokio::time::sleep(Duration::from_micros(random.random_range(0..40_000))).await;
        let filler = filler.as_ref().filter(|_| crash % 2 == 1);
        if let Some(filler) = filler {
            filler.fill();
            tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        }
        snapshotter.crash();
        for task in tasks {
            models.push(task.await.unwrap());
        }
        filler.inspect(|filler| filler.remove());
        if crash % 10 == 9 {
            snapshotter.crash_at_start(Duration::from_micros(random.random_range(0..60_000)));
        }
        snapshotter.restart();
        check(snapshotter, &mut models).await;
        acknowledged = models.iter().map(|model| model.number).sum();
    }
    assert!(acknowledged > crashes, "only {acknowledged} snapshots were made");
    // Everything that is left can be removed.
    let mut client = snapshotter.connect().await;
    while let Some(info) = {
        let infos = client.list(&[]).await.unwrap();
        infos.iter().find(|info| infos.iter().all(|other| other.parent != info.name)).cloned()
    } {
        client.remove(&info.name).await.unwrap();
    }
    assert!(snapshotter.names("snapshots").is_empty() && snapshotter.names("l").is_empty());
}

/// The same layer under many chain IDs.
const TRUST: &str = "unverified_layers = \"trust\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_lose_nothing_and_leave_nothing_over() {
    crash_repeatedly(&mut Snapshotter::start_with(&["repository"], 60_000, TRUST), CRASHES, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_on_a_full_disk_lose_nothing_and_leave_nothing_over() {
    let mut snapshotter = Snapshotter::configured(&["repository"], 60_000, TRUST);
    let root = snapshotter.path("root");
    fs::create_dir(&root).unwrap();
    let _disk = Mounted::tmpfs(root.clone(), "16m");
    snapshotter.restart();
    crash_repeatedly(&mut snapshotter, CRASHES, Some(Filler(root.join("filler")))).await;
}
