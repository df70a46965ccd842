//! A stand-in for the client's cache manager: reads the FIFO, notes what is registered, answers what it counts.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// What a record said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registered {
    pub digest: [u8; 20],
    pub size: u64,
    pub description: Vec<u8>,
    /// Whether the object was in the cache when its record was read.
    pub visible: bool,
}

/// Runs until it is dropped.
pub struct TestManager {
    registered: Arc<Mutex<Vec<Registered>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Makes the FIFO and the file with the protocol's revision in `workspace`.
pub fn make_fifo(workspace: &Path, protocol: &str) -> PathBuf {
    let fifo = workspace.join("cachemgr");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    fs::write(workspace.join("cachemgr.protocol"), protocol).unwrap();
    fifo
}

/// Opens a FIFO so that writers find a reader.
pub fn open_reader(fifo: &Path) -> File {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(fifo).unwrap()
}

impl TestManager {
    /// One that says that so many bytes are pinned. Cache and workspace are `cache`.
    pub fn start(cache: &Path, pinned: u64) -> Self {
        Self::read(open_reader(&make_fifo(cache, "2")), cache, pinned)
    }

    /// The same, from a FIFO that is there.
    pub fn read(mut fifo: File, cache: &Path, pinned: u64) -> Self {
        let (registered, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, stopped, cache) = (registered.clone(), stop.clone(), cache.to_owned());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut head = [0; 48];
                match fifo.read(&mut head) {
                    Ok(48) => one(&head, &mut fifo, &cache, pinned, &noted),
                    Ok(0) => std::thread::sleep(Duration::from_millis(1)),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                    other => panic!("{other:?} from the FIFO"),
                }
            }
        });
        Self { registered, stop, thread: Some(thread) }
    }

    /// What was registered until now.
    pub fn registered(&self) -> Vec<Registered> {
        self.registered.lock().unwrap().clone()
    }
}

fn one(head: &[u8; 48], fifo: &mut File, cache: &Path, pinned: u64, noted: &Mutex<Vec<Registered>>) {
    let command = u32::from_le_bytes(head[0..4].try_into().unwrap());
    let return_pipe = i32::from_le_bytes(head[16..20].try_into().unwrap());
    match command {
        1 => {
            assert_eq!(return_pipe, -1);
            let digest: [u8; 20] = head[20..40].try_into().unwrap();
            let mut description = vec![0; usize::from(u16::from_le_bytes(head[40..42].try_into().unwrap()))];
            fifo.read_exact(&mut description).unwrap();
            let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let visible = cache.join(&name[..2]).join(&name[2..]).is_file();
            let size = u64::from_le_bytes(head[8..16].try_into().unwrap());
            noted.lock().unwrap().push(Registered { digest, size, description, visible });
        }
        10 => {
            let pipe = cache.join(format!("pipe{return_pipe}"));
            let mut answer = OpenOptions::new().write(true).open(pipe).unwrap();
            answer.write_all(&[(pinned + 1000).to_le_bytes(), pinned.to_le_bytes()].concat()).unwrap();
        }
        other => panic!("command {other} would have killed the cache manager"),
    }
}

impl Drop for TestManager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}
