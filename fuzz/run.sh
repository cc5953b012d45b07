#!/bin/sh
# The long form of fuzzing: FUZZ_SECONDS (default 300) for each target. libFuzzer where nightly Rust and cargo-fuzz are
# installed, mutations without coverage otherwise. What breaks is kept in fuzz/crashers, inputs by which libFuzzer reached
# new code in fuzz/corpus, the fewest that reach all of it, a line of hex each; `make test` replays both.
set -eu
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-300}
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "== no nightly cargo-fuzz here: mutations, $seconds s each"
    export KROCKET_FUZZ_SECONDS="$seconds"
    exec cargo test --release --workspace --test fuzz -- --nocapture --test-threads 1
fi

targets=${FUZZ_TARGETS:-request header batch}
work=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
rm -rf "$work"
KROCKET_FUZZ_CORPUS=$work cargo test --release -p krocket-protocol --test fuzz
cd fuzz
total=0 report=
for target in $targets; do
    echo "== $target, libFuzzer, $seconds s"
    mkdir -p "crashers/$target" corpus
    log=$work/$target.log
    cargo +nightly fuzz run "$target" "$work/$target" -- -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=1024 \
        -timeout=10 -print_final_stats=1 -verbosity=0 -artifact_prefix="crashers/$target/" >"$log" 2>&1 ||
        { tail -n 60 "$log"; exit 1; }
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    total=$((total + count)) report="$report$target $count, "
    [ -z "${KROCKET_TORTURE_LINES:-}" ] || printf '{"group":"Input","case":"%s","count":%d,"result":"%s","seconds":%d,"seed":null}\n' \
        "$target: libFuzzer, guided by coverage" "$count" "no crash, no promise broken" "$seconds" >>"$KROCKET_TORTURE_LINES"
    cargo +nightly fuzz cmin "$target" "$work/$target" -- -max_len=4096 -use_counters=0 >>"$log" 2>&1 ||
        { tail -n 60 "$log"; exit 1; }
    for input in "$work/$target"/*; do
        od -An -v -tx1 "$input" | tr -d ' \n'
        echo
    done | LC_ALL=C sort -u >"corpus/$target.hex"
    echo "$target: $count executions, $(wc -l <"corpus/$target.hex") inputs reach all code that was reached"
done
echo "${report%, }: $total executions, no crash"
