#!/usr/bin/env bash
# Builds the Dockerfile with buildah and runs what it makes as the chart's pod does: as its user, with a read-only root, in
# a network of its own; then the chart's `helm test` against it. image_test.go says what is run:
#
#   image.sh WORK    WORK/etc (the folder /etc/krocket), WORK/args, WORK/user, WORK/hosts,
#                    WORK/ready (the address of its probe), WORK/test (the test pod's script)
#
# There is no registry: Debian comes from debootstrap, and the image of Rust is stood in for by one whose cargo has the
# binary ($KROCKET_BIN) already. Everything else of the Dockerfile runs as it stands. Needs root, buildah and debootstrap.
set -euo pipefail
work=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
top=$(realpath "$here/../..")
cache=${KROCKET_CACHE:-$HOME/.cache/krocket}/chart
export BUILDAH_ISOLATION=chroot
mkdir -p "$cache"

buildah() { command buildah --root "$cache/images" --runroot "$work/run" "$@"; }

containers=()
finish() {
  for container in "${containers[@]}"; do buildah rm "$container" >/dev/null || true; done
  buildah rmi -f krocket/krocket:test krocket/build:test docker.io/library/rust:stand-in >/dev/null 2>&1 || true
}
trap finish EXIT

mounted() {
  container=$(buildah from --pull-never "$1")
  containers+=("$container")
  root=$(buildah mount "$container")
}

base=$(sed -n 's/^FROM \(debian:[^ ]*\).*/\1/p' "$top/Dockerfile")
rust=$(sed -n 's/^FROM \(rust:[^ ]*\) .*/\1/p' "$top/Dockerfile")
if ! buildah inspect --type image "docker.io/library/$base" >/dev/null 2>&1; then
  suite=${base#debian:}
  debootstrap --variant=minbase "${suite%-slim}" "$work/debian" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log"; exit 1; }
  tar -C "$work/debian" -cf "$work/debian.tar" .
  printf 'FROM scratch\nADD debian.tar /\n' >"$work/Debian"
  buildah bud -q -t "docker.io/library/$base" -f "$work/Debian" "$work" >/dev/null
fi

mkdir -p "$work/rust"
cp "$KROCKET_BIN" "$work/rust/krocket"
cat >"$work/rust/cargo" <<'END'
#!/bin/sh
install -D /opt/krocket "$CARGO_TARGET_DIR/release/krocket"
END
# scripts/setup is content when these are there.
printf '#!/bin/sh\n' >"$work/rust/g++"
printf '#!/bin/sh\n# strip --strip-debug -o OUT IN\ncp "$4" "$3"\n' >"$work/rust/strip"
chmod +x "$work"/rust/*
cat >"$work/rust/Dockerfile" <<END
FROM docker.io/library/$base
COPY cargo g++ strip /usr/local/bin/
COPY krocket /opt/krocket
RUN mkdir -p /usr/lib/llvm-14/lib && touch /usr/lib/llvm-14/lib/libclang.so.1
END
buildah bud -q --pull-never -t "docker.io/library/$rust" "$work/rust" >/dev/null

echo "== the context has the whole workspace"
buildah bud -q --pull-never --target build -t krocket/build:test -f "$top/Dockerfile" "$top" >/dev/null
mounted krocket/build:test
cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$root/src/Cargo.toml" >"$work/metadata.json"

echo "== the image"
buildah bud -q --pull-never -t krocket/krocket:test -f "$top/Dockerfile" "$top" >/dev/null
buildah inspect --type image --format 'entrypoint {{.OCIv1.Config.Entrypoint}} user {{.OCIv1.Config.User}}' krocket/krocket:test
echo
mounted krocket/krocket:test

# The kubelet makes the places of volumes.
mkdir -p "$root/etc/krocket" "$root/var/lib/krocket"
mkdir -p "$work/data" && chown "$(cat "$work/user")" "$work/data"
export root work
unshare --mount --net --pid --fork --mount-proc bash -eu <<'END'
ip link set lo up
mount --bind "$root" "$root"
mount --bind "$work/data" "$root/var/lib/krocket"
mount --bind "$work/etc" "$root/etc/krocket"
mount --bind "$work/hosts" "$root/etc/hosts"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -o remount,ro,bind "$root"
IFS=: read -r uid gid <"$work/user" || true
as_pod() {
  exec chroot "$root" setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
}
mapfile -t args <"$work/args"
(as_pod sh -c '! touch /usr/here 2>/dev/null && test "$(id -u)" != 0 && touch /tmp/here') || { echo "the root can be written"; exit 1; }
(as_pod krocket "${args[@]}") 2>"$work/log" &
krocket=$!
for _ in $(seq 200); do
  code=$(curl -sk -o /dev/null -w '%{http_code}' "$(cat "$work/ready")" || true)
  [ "$code" = 200 ] && break
  kill -0 "$krocket" 2>/dev/null || break
  sleep 0.1
done
if [ "$code" != 200 ]; then cat "$work/log"; exit 1; fi
echo "== /readyz $code"
(as_pod bash -ec "$(cat "$work/test")")
kill -TERM "$krocket"
wait "$krocket" && echo "== stopped"
END
