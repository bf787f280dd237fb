#!/bin/sh
# rustdoc as Cargo calls it, with a directory of its own for each crate's pages: in a common one every crate has the
# index for searching over all crates before it read and written anew, which takes longer than its own pages. Cargo looks
# for a page where it asked for it, and finds one. What is said of the documentation is rustdoc's own.
set -eu

pages= crate= before=
for word in "$@"; do
    case $before in
        -o) pages=$word ;;
        --crate-name) crate=$word ;;
    esac
    before=$word
done
if [ -z "$pages" ] || [ -z "$crate" ]; then
    exec rustdoc "$@"
fi

left=$# before=
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    if [ "$before" = -o ]; then
        set -- "$@" "$pages/$crate"
    else
        set -- "$@" "$word"
    fi
    before=$word left=$((left - 1))
done
rustdoc "$@"
: >"$pages/$crate/index.html"
