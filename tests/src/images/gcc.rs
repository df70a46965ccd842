//! A real C compiler on a real Debian, with some programs to compile.

use std::path::Path;

use anyhow::Result;

use super::{Image, ImageBuilder, LayerTar, debian};

const PACKAGES: &[&str] = &["gcc", "libc6-dev"];

/// Programs that include and link this and that, by name.
pub const PROGRAMS: [(&str, &str); 5] = [
    ("hello", "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n"),
    ("root", "#include <stdio.h>\n#include <math.h>\nint main(void) { printf(\"%f\\n\", sqrt(2)); return 0; }\n"),
    (
        "words",
        "#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>\nint main(int n, char **words) { char *copy = strdup(words[n - 1]); puts(copy); free(copy); return 0; }\n",
    ),
    (
        "time",
        "#include <stdio.h>\n#include <time.h>\n#include <stdlib.h>\nint main(void) { srand(time(0)); printf(\"%d\\n\", rand()); return 0; }\n",
    ),
    (
        "sort",
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nstatic int order(const void *a, const void *b) { return strcmp(a, b); }\nint main(void) { char letters[] = \"gcc\"; qsort(letters, 3, 1, order); puts(letters); return 0; }\n",
    ),
];

/// The image `demo/gcc:1`. The programs are in `/src`.
pub fn gcc(cache: &Path) -> Result<Image> {
    let mut image = ImageBuilder::new("demo/gcc", "1");
    for layer in debian::layers(cache, "gcc", PACKAGES)? {
        image = image.made_layer(layer);
    }
    image.layer(sources).entrypoint(["gcc"]).env("LC_ALL", "C.UTF-8").build(cache)
}

fn sources(tar: &mut LayerTar) -> Result<()> {
    tar.dir("src", 0o755)?;
    PROGRAMS.iter().try_for_each(|(name, source)| tar.file(format!("src/{name}.c"), 0o644, source))
}
