//! Log files of containers: lines of `<time> <stdout|stderr> <F|P>[:<tag>...] <text>`, where `P` marks the pieces of a
//! long line but the last.

/// What a container wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To standard output.
    pub stdout: String,
    /// To standard error.
    pub stderr: String,
}

/// Takes a log apart. Lines that are none of a log are left out.
pub fn parse(log: &str) -> Output {
    let mut output = Output::default();
    for line in log.lines() {
        let mut fields = line.splitn(4, ' ');
        let (Some(_), Some(stream), Some(tags)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let to = match stream {
            "stdout" => &mut output.stdout,
            "stderr" => &mut output.stderr,
            _ => continue,
        };
        to.push_str(fields.next().unwrap_or_default());
        if tags.split(':').next() == Some("F") {
            to.push('\n');
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines() {
        let log = "t stdout F one two\nt stderr F error\nt stdout P half \nt stdout F whole\nt stdout F \nnonsense\n\n";
        assert_eq!(parse(log), Output { stdout: "one two\nhalf whole\n\n".to_owned(), stderr: "error\n".to_owned() });
    }
}
