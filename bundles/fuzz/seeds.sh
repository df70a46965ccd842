#!/bin/sh
# Seeds of the fuzz targets: one archive per target in `seeds/`, unpacked into `corpus/`, where cargo-fuzz looks for them.
#
#   ./seeds.sh unpack             corpus/TARGET/* from seeds/TARGET.tar.gz; files that are there already stay
#   ./seeds.sh pack [TARGET ...]  seeds/TARGET.tar.gz from corpus/TARGET/*, without TARGET from all
#
# Minimize a corpus before packing it: cargo fuzz cmin TARGET. The same files give the same archive.
set -eu
cd "$(dirname "$0")"

unpack() {
    for archive in seeds/*.tar.gz; do
        target=$(basename "$archive" .tar.gz)
        mkdir -p "corpus/$target"
        tar --extract --gzip --skip-old-files --file "$archive" --directory "corpus/$target"
    done
}

pack() {
    for target in "$@"; do
        tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644 \
            --directory "corpus/$target" --files-from /dev/stdin <<LIST | gzip --best --no-name >"seeds/$target.tar.gz"
$(ls "corpus/$target" | LC_ALL=C sort)
LIST
    done
}

case "${1:-}" in
unpack) unpack ;;
pack)
    shift
    [ $# -gt 0 ] || set -- $(ls corpus)
    pack "$@"
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
