#!/bin/sh
# Lints the workspace, or builds its documentation, beside the build of the tests.
#
#   tests/xtask/lint.sh clippy|doc
#
# In a directory of their own, for Cargo lets one at a time into one. What only runs while something is compiled (macros,
# build scripts and what these are made of) is the same as the tests' build has: a new directory gets it from there. And
# the documentation stands on what clippy checked: the same features, the same driver. Where either is not to be had,
# Cargo makes it anew, which takes minutes and changes no result.
set -eu

cd "$(dirname "$0")/../.."
readonly built=${CARGO_TARGET_DIR:-target}/debug
readonly lint=target/lint

# take_over: what is of other people's packages; ours differ with every change. Cargo writes into its own records in
# place, so these are copies, and what was compiled is linked.
take_over() {
    mkdir -p "$lint/new/deps" &&
        cp -a "$built/.fingerprint" "$built/build" "$lint/new/" &&
        rm -rf "$lint"/new/.fingerprint/keywheel-* &&
        find "$built/deps" -maxdepth 1 -type f ! -name '*keywheel*' \
            \( -name '*.so' -o -name '*.rlib' -o -name '*.rmeta' -o -name '*.d' \) \
            -exec cp -l -t "$lint/new/deps" {} +
}

if [ -d "$built/deps" ] && ! [ -e "$lint/debug" ]; then
    rm -rf "$lint/new"
    if take_over; then
        mv "$lint/new" "$lint/debug"
    else
        rm -rf "$lint/new"
    fi
fi

case ${1:-} in
    clippy)
        exec cargo clippy --target-dir "$lint" --workspace --all-targets -- -D warnings
        ;;
    doc)
        # What `cargo clippy` tells Cargo, word for word: its checks then count here, too.
        driver=$(rustc --print sysroot)/bin/clippy-driver
        if [ -x "$driver" ]; then
            export RUSTC_WORKSPACE_WRAPPER="$driver" CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
        fi
        # There are no examples: where they are named, Cargo resolves features as it does for tests. `--bins` would take
        # those in which have their library's name and with that its place, so the others are named.
        export RUSTDOC="$PWD/tests/xtask/rustdoc.sh" RUSTDOCFLAGS=-Dwarnings
        exec cargo doc --target-dir "$lint" --workspace --no-deps --lib --examples \
            --bin bus --bin journal --bin generate --bin generate-deploy --bin keywheel --bin keywheel-nsjoin \
            --bin keywheel-runtime --bin keywheel-testapp --bin keywheel-without --bin keywheel-xtask
        ;;
    *)
        echo "lint.sh: ${1:-nothing} is neither clippy nor doc" >&2
        exit 2
        ;;
esac
