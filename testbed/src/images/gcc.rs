//! Real compilers of C and C++ on a real Debian, and some programs to compile.

use std::path::Path;

use anyhow::Result;

use super::{Image, ImageBuilder, debian};

const PACKAGES: &[&str] = &["gcc", "libc6-dev"];
const GXX_PACKAGES: &[&str] = &["g++", "libc6-dev"];

/// Names and sources of programs with different headers and libraries.
pub const PROGRAMS: [(&str, &str); 5] = [
    (
        "hello",
        r#"
        #include <stdio.h>
        int main(void) { puts("hello"); return 0; }"#,
    ),
    (
        "root",
        r#"
        #include <math.h>
        #include <stdio.h>
        #include <stdlib.h>
        int main(int n, char **words) { printf("%f\n", sqrt(n > 1 ? atof(words[1]) : 2)); return 0; }"#,
    ),
    (
        "words",
        r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <time.h>
        int main(void) { time_t now = time(0); char *copy = strdup(ctime(&now)); puts(copy); free(copy); return 0; }"#,
    ),
    (
        "random",
        r#"
        #include <math.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <time.h>
        int main(void) { srand(time(0)); printf("%f\n", log(1 + rand())); return 0; }"#,
    ),
    (
        "sort",
        r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        static int order(const void *a, const void *b) { return memcmp(a, b, 1); }
        int main(void) { char letters[] = "gcc"; qsort(letters, 3, 1, order); puts(letters); return 0; }"#,
    ),
];

/// The image `demo/gcc:1`.
pub fn gcc(cache: &Path) -> Result<Image> {
    let layers = debian::layers(cache, "gcc", PACKAGES)?;
    ImageBuilder::of("demo/gcc", layers).entrypoint(["gcc"]).env("LC_ALL", "C.UTF-8").build(cache)
}

/// The image `demo/gxx:1`.
pub fn gxx(cache: &Path) -> Result<Image> {
    let layers = debian::layers(cache, "gxx", GXX_PACKAGES)?;
    ImageBuilder::of("demo/gxx", layers).entrypoint(["g++"]).env("LC_ALL", "C.UTF-8").build(cache)
}
