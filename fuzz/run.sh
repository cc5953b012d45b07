#!/bin/sh
# The long form of fuzzing: FUZZ_SECONDS (default 300) for each target. libFuzzer where nightly Rust and cargo-fuzz are
# installed, mutations without coverage otherwise. What breaks is kept in fuzz/crashers and replayed by `make test`.
set -eu
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-300}
if cargo +nightly fuzz --version >/dev/null 2>&1; then
    KROCKET_FUZZ_CORPUS=$PWD/fuzz/corpus cargo test --release --workspace --test fuzz
    for target in ${FUZZ_TARGETS:-request header batch}; do
        echo "== $target, libFuzzer, $seconds s"
        mkdir -p "fuzz/crashers/$target"
        (cd fuzz && cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=1024 \
            -timeout=10 -print_final_stats=1 -verbosity=0 -artifact_prefix="crashers/$target/")
    done
else
    echo "== no nightly cargo-fuzz here: mutations, $seconds s each"
    KROCKET_FUZZ_SECONDS=$seconds cargo test --release --workspace --test fuzz -- --nocapture --test-threads 1
fi
