//! A file that blocks whoever opens it, as a hung mount does.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `F_SETLEASE` and `F_WRLCK` of Linux. The signal that somebody wants to open the file is ignored.
const HOLD: &str = r#"
    $SIG{IO} = "IGNORE";
    open(my $file, "+<", $ARGV[0]) or die "open: $!";
    fcntl($file, 1024, 1) or die "lease: $!";
    $| = 1;
    print "held\n";
    <STDIN>;
"#;

/// A write lease on a file. Opening the file blocks until it is dropped, or for the kernel's 45 s.
pub struct Lease(Child);

impl Lease {
    pub fn on(path: &Path) -> Self {
        let mut command = Command::new("perl");
        command.arg("-e").arg(HOLD).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(holder)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
