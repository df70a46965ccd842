//! A substitute for a large experiment's analysis: a compiled program with many shared libraries that reads many configuration
//! files and one file of events.
//!
//! ```text
//! /opt/analysis/bin/analyse        linked to all libraries
//! /opt/analysis/lib/libpart000.so  LIBRARIES of them: code, and a table of constants
//! /opt/analysis/config/000.cfg     CONFIGURATIONS of them
//! /opt/analysis/events.bin         the input
//! ```
//!
//! The layers below are Debian and gcc, since such images contain a compiler, too. Size and content of the tables are
//! pseudo-random with a fixed seed.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::debian::{self, Step};
use super::rootfs::shell;
use super::{Image, ImageBuilder};

/// Version of the program; must change whenever its files change.
const RECIPE: &str = "analysis 1";
const LIBRARIES: usize = 250;
const CONFIGURATIONS: usize = 150;
/// Each event has eight 4-byte numbers.
const EVENTS: usize = 400_000;
/// Numbers in a library's table, two bytes each: most are near the first, some near the second.
const TABLES: [f64; 2] = [10_000.0, 250_000.0];
const SEED: u64 = 1;

/// The image `demo/analysis:1`.
pub fn analysis(cache: &Path) -> Result<Image> {
    let step = Step { key: RECIPE, run: &make };
    let layers = debian::layers_with(cache, "analysis", &["gcc", "libc6-dev"], &step)?;
    ImageBuilder::of("demo/analysis", layers).entrypoint(["/opt/analysis/bin/analyse"]).build(cache)
}

fn make(root: &Path) -> Result<()> {
    let analysis_root = root.join("opt/analysis");
    for directory in ["bin", "config", "lib", "source"] {
        std::fs::create_dir_all(analysis_root.join(directory))?;
    }
    let mut random = StdRng::seed_from_u64(SEED);
    for number in 0..LIBRARIES {
        std::fs::write(analysis_root.join(format!("source/part{number:03}.c")), library(number, &mut random))?;
    }
    std::fs::write(analysis_root.join("source/analyse.c"), program())?;
    for number in 0..CONFIGURATIONS {
        std::fs::write(analysis_root.join(format!("config/{number:03}.cfg")), configuration(number, &mut random))?;
    }
    std::fs::write(analysis_root.join("events.bin"), events(&mut random))?;
    shell(
        root,
        "cd /opt/analysis
        ls source/part*.c | xargs -P 2 -I {} sh -ec '
            gcc -O1 -shared -fPIC -o lib/lib$(basename {} .c).so {}'
        gcc -O1 -o bin/analyse source/analyse.c -Llib -Wl,--no-as-needed -Wl,-rpath,/opt/analysis/lib \
            $(cd lib && ls | sed 's/^lib/-l/; s/\\.so$//') -lm
        rm -r source",
    )
}

fn library(number: usize, random: &mut StdRng) -> String {
    let [usual, large] = TABLES;
    // Few are large.
    let size = (usual + (large - usual) * random.random::<f64>().powi(4)) as usize;
    let mut source = format!("static const short table[{size}] = {{\n");
    for _ in 0..size {
        let _ = write!(source, "{},", random.random_range(0..64));
    }
    let _ = write!(
        source,
        "\n}};\ndouble part{number:03}(unsigned key) {{ return table[key % {size}] + table[(key / 7) % {size}]; }}\n"
    );
    source
}

fn program() -> String {
    let mut source = "#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n".to_owned();
    for number in 0..LIBRARIES {
        let _ = writeln!(source, "double part{number:03}(unsigned);");
    }
    source.push_str("static double (*const parts[])(unsigned) = {");
    for number in 0..LIBRARIES {
        let _ = write!(source, "part{number:03},");
    }
    let _ = write!(
        source,
        r#"}};
static FILE *opened(const char *path) {{
    FILE *file = fopen(path, "rb");
    if (!file) {{ perror(path); exit(1); }}
    return file;
}}
int main(void) {{
    static char text[1 << 16];
    unsigned long seed = 0, histogram[64] = {{0}}, events = 0;
    for (int i = 0; i < {CONFIGURATIONS}; i++) {{
        char path[64];
        snprintf(path, sizeof path, "/opt/analysis/config/%03d.cfg", i);
        FILE *file = opened(path);
        seed += fread(text, 1, sizeof text, file);
        fclose(file);
    }}
    FILE *input = opened("/opt/analysis/events.bin");
    unsigned event[8];
    double sum = 0;
    for (; fread(event, sizeof event, 1, input) == 1; events++) {{
        if (events == 0) {{ puts("ready"); fflush(stdout); }}
        double value = parts[(event[0] + seed) % {LIBRARIES}](event[1]) + sqrt(event[2]);
        histogram[(unsigned long)value % 64]++;
        sum += value;
    }}
    printf("result %lu events, %g, %lu\n", events, sum, histogram[7]);
    return events == {EVENTS} ? 0 : 1;
}}
"#
    );
    source
}

fn configuration(number: usize, random: &mut StdRng) -> String {
    let mut text = format!("# configuration {number}\n");
    for line in 0..random.random_range(30..300) {
        let _ = writeln!(text, "module{number}.parameter{line} = {}", random.random_range(0..10_000));
    }
    text
}

fn events(random: &mut StdRng) -> Vec<u8> {
    (0..EVENTS * 8).flat_map(|_| random.random_range(0..100_000_u32).to_le_bytes()).collect()
}
