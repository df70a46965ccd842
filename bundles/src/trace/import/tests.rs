//! Recordings as their programs write them.

use super::*;
use crate::trace::{LossCause, Use};

fn paths(imported: &Imported) -> Vec<String> {
    imported.files.iter().map(|file| file.path.to_string()).collect()
}

fn losses(imported: &Imported) -> Vec<(LossCause, u64)> {
    imported.losses.by_cause().collect()
}

#[test]
fn stargz_files_have_an_order_and_a_manifest() {
    let digest = Digest::sha256(b"m");
    let record = format!(
        "{{\"path\":\"usr/bin/python3.11\",\"manifestDigest\":\"{digest}\",\"layerIndex\":3}}\n\
         {{\"path\":\"etc/ld.so.cache\",\"manifestDigest\":\"{digest}\",\"layerIndex\":0}}\n\
         {{\"path\":\"usr/bin/python3.11\",\"manifestDigest\":\"{digest}\",\"layerIndex\":3}}\n"
    );
    let imported = import(Source::Stargz, record.as_bytes()).unwrap();
    assert_eq!(paths(&imported), ["/usr/bin/python3.11", "/etc/ld.so.cache"]);
    assert_eq!(imported.manifest, Some(digest));
    assert!(imported.files.is_sorted_by_key(|file| file.at_us) && imported.blind_spots.has(BlindSpots::TIMES));
    let other = format!("{record}{{\"path\":\"x\",\"manifestDigest\":\"{}\"}}", Digest::sha256(b"n"));
    let error = import(Source::Stargz, other.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("line 4") && error.contains("another manifest"), "{error}");
}

#[test]
fn nydus_files_have_sizes_and_times() {
    let record = b"path,size,elapsed\n/bin/sh,125640,12\n\"/a,b\",7,900\n/lib/x,1,30\nx,1,40\n";
    let imported = import(Source::Nydus, record).unwrap();
    let seen: Vec<_> = imported.files.iter().map(|f| (f.path.to_string(), f.size, f.at_us)).collect();
    assert_eq!(seen, [("/bin/sh".into(), 125_640, 12), ("/lib/x".into(), 1, 30), ("/a,b".into(), 7, 900)]);
    assert_eq!((losses(&imported), imported.duration_us), (vec![(LossCause::Unresolved, 1)], 900));
    let error = import(Source::Nydus, b"path,size,elapsed\n/bin/sh,122.7 KiB,12 us\n").unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("readable = false"), "{error}");
}

#[test]
fn cvmfs_files_are_reduced_to_layers() {
    let layer = format!("/.layers/ab/ab{}/layerfs", "0".repeat(62));
    let record = format!(
        "\"1700000000000.001\",\"-1\",\"Tracer\",\"Trace buffer created\"\r\n\
         \"1700000000100.250\",\"4\",\"{layer}/bin\",\"lookup()\"\r\n\
         \"1700000000300.000\",\"1\",\"{layer}/etc/passwd\",\"open()\"\r\n\
         \"1700000000200.500\",\"1\",\"{layer}/bin/sh\",\"open()\"\r\n\
         \"1700000000400.000\",\"1\",\"/software/elsewhere\",\"open()\"\r\n\
         \"1700000000900.000\",\"-2\",\"Tracer\",\"Destroying trace buffer...\"\r\n"
    );
    let imported = import(Source::Cvmfs, record.as_bytes()).unwrap();
    let seen: Vec<_> = imported.files.iter().map(|f| (f.path.to_string(), f.at_us)).collect();
    assert_eq!(seen, [("/bin/sh".into(), 0), ("/etc/passwd".into(), 99_500)]);
    assert_eq!(imported.started, 1_700_000_000);
    assert_eq!(imported.blind_spots.missing_uses(), BlindSpots::default());
    let cut = record.lines().take(3).collect::<Vec<_>>().join("\n");
    assert!(import(Source::Cvmfs, cut.as_bytes()).unwrap().blind_spots.has(BlindSpots::LOSSES));
}

#[test]
fn strace_with_y_names_the_opened_files() {
    let record = br#"812   1700000000.000100 execve("/bin/sh", ["sh", "-c", "cat a; ls"], 0x7ffc /* 9 vars */) = 0
812   1700000000.000400 access("/etc/ld.so.preload", R_OK) = -1 ENOENT (No such file or directory)
812   1700000000.000500 openat(AT_FDCWD</srv>, "/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3</usr/lib/libc-2.36.so>
812   1700000000.000600 openat(AT_FDCWD</srv>, "none", O_RDONLY) = -1 ENOENT (No such file or directory)
812   1700000000.000700 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7f) = 813
813   1700000000.000800 openat(AT_FDCWD</srv>, "a", O_RDONLY <unfinished ...>
812   1700000000.000900 openat(AT_FDCWD</srv>, "/", O_RDONLY|O_DIRECTORY) = 3</>
813   1700000000.001000 <... openat resumed>) = 3</srv/\303\244 \76>
813   1700000000.001100 pipe2([3<pipe:[77]>, 4<pipe:[77]>], O_CLOEXEC) = 0
813   1700000000.001200 +++ exited with 0 +++
812   1700000000.001300 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=813} ---
812   1700000000.002000 exit_group(0)     = ?
"#;
    let imported = import(Source::Strace, record).unwrap();
    let seen: Vec<_> = imported.files.iter().map(|f| (f.path.to_string(), f.at_us, f.how)).collect();
    let expected = [
        ("/bin/sh".into(), 0, Use::Exec),
        ("/usr/lib/libc-2.36.so".into(), 400, Use::Open),
        ("/srv/\u{e4} >".into(), 700, Use::Open),
    ];
    assert_eq!(seen, expected);
    assert_eq!((imported.started, imported.duration_us, losses(&imported)), (1_700_000_000, 1900, vec![]));
    assert_eq!(imported.files[1].open_flags, 0o2_000_000);
}

#[test]
fn strace_without_y_follows_directories() {
    let record = br#"execve("/usr/bin/env", ["env"], 0x7ffc) = 0
open("rel", O_RDONLY) = 3
chdir("/srv/app") = 0
open("../lib/./b", O_RDONLY) = 3
[pid    77] open("lost", O_RDONLY) = 3
clone3({flags=CLONE_VM, exit_signal=SIGCHLD}, 88) = 78
[pid    78] openat2(AT_FDCWD, "c", {flags=O_RDONLY|O_CLOEXEC, resolve=0}, 24) = 4
[pid    78] openat(5, "d", O_RDONLY) = 6
[pid    78] open("/cut"..., O_RDONLY) = 6
[pid    78] open("/half
"#;
    let imported = import(Source::Strace, record).unwrap();
    assert_eq!(paths(&imported), ["/usr/bin/env", "/srv/lib/b", "/srv/app/c"]);
    assert_eq!(losses(&imported), [(LossCause::Unresolved, 4), (LossCause::Malformed, 1)]);
    assert!(
        imported.blind_spots.has(BlindSpots::TIMES.and(BlindSpots::LINKS))
            && !imported.blind_spots.has(BlindSpots::START)
    );
    assert!(imported.blind_spots.has(BlindSpots::IO_URING.and(BlindSpots::UNOPENED)));
}

#[test]
fn files_of_other_formats_are_refused() {
    for source in [Source::Stargz, Source::Nydus, Source::Cvmfs, Source::Strace] {
        for bytes in [&b""[..], b"hello\n", b"\0\xff\n", b"1,2,3,4,5\n"] {
            assert!(import(source, bytes).is_err(), "{source}: {bytes:?}");
        }
    }
}

#[test]
fn imported_traces_name_their_source_and_round_trip() {
    let chain_id = crate::image::ChainId(Digest::sha256(b"x"));
    let image = ImageId { chain_id, manifest: None, reference: "r/i:t".into() };
    let trace = import(Source::Nydus, b"path,size,elapsed\n/bin/sh,1,12\n").unwrap().into_trace(image);
    assert!(trace.recorder.contains("nydus") && !trace.is_complete(), "{trace:?}");
    assert!(
        trace.blind_spots.has(BlindSpots::RANGES.and(BlindSpots::SET_UP)) && trace.files[0].ranges.is_none(),
        "{trace:?}"
    );
    assert_eq!(Trace::from_bytes(&trace.to_bytes().unwrap()).unwrap(), trace);
}
