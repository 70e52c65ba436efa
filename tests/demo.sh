#!/bin/bash
# The whole story on one machine: a shared cache behind a real sshd; a push, a repeated push, a push
# of a small change, a refused push; pulls with our program and with stock ostree over http, and the
# proof that a pull returns the built files.
# Everything happens in a temporary directory, on ports of 127.0.0.1, and is removed afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

# The artifact's files, which exist on every Debian 12 on which .ci/setup has run.
sources=(/usr/include /usr/share/zoneinfo /usr/lib/python3)

work=$(mktemp -d)
pids=()
cleanup() {
    status=$?
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ $status != 0 ]; then
        echo "demo: failed; the end of what the server said:" >&2
        tail -n 20 "$work/sshd.log" >&2 || true
    fi
    chmod -R u+rwX "$work" 2>/dev/null || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*" | { [ -t 1 ] && cat || sed 's/\x1b\[[0-9]*m//g'; }; }
exec 3>&1
run() {
    printf '$ %s\n' "$(shown "$@")" >&3
    "$@"
}
# The command as a user would type it, with the programs installed and short paths.
shown() { printf '%s ' "$@" | sed "s|$bin/||g; s|$work/||g"; }
now() { date +%s%N; }
since() { awk -v ns=$(($(now) - $1)) 'BEGIN { printf "%.1f s", ns / 1e9 }'; }
size() { du -sh --apparent-size "$1" | cut -f1; }
objects() { find "$work/artifacts/objects" -type f | wc -l; }
number() { sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$2" | tail -n 1; }

say "Building the programs (release)"
cargo build --release --workspace --bins --quiet
bin=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)

say "1. A user, Alice, has built something: $(printf '%s ' "${sources[@]}")"
mkdir "$work/tree"
cp -a "${sources[@]}" "$work/tree"
files=$(find "$work/tree" -type f | wc -l)
tree_size=$(size "$work/tree")
echo "$files files, $tree_size"
cache=$work/local-cache
ostree init --repo="$cache" --mode=bare-user
commit=$(ostree commit --repo="$cache" --branch=demo/include.bst/key1 --tree=dir="$work/tree" \
    --owner-uid=0 --owner-gid=0 --no-xattrs)
echo "committed in the local cache as demo/include.bst/key1, ${commit:0:12}"

say "2. A server: an empty shared cache, read over http, written over ssh"
run "$bin/artifact-cache-admin" init "$work/artifacts"
python3 -u -m http.server 0 --bind 127.0.0.1 --directory "$work/artifacts" \
    >"$work/http.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    web=$(sed -n 's/.* port \([0-9]*\).*/\1/p' "$work/http.log" | head -n 1)
    [ -n "$web" ] && break
    sleep 0.1
done
pull_url=http://127.0.0.1:$web

ssh-keygen -q -t ed25519 -N '' -f "$work/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$work/user_key"
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
force="ForceCommand $bin/bst-artifact-receive --config $work/artifact-cache.toml \
--pull-url $pull_url --verbose $work/artifacts"
cat >"$work/artifact-cache.toml" <<END
[[identity]]
name = "alice"
keys = ["$(cut -d ' ' -f 1,2 "$work/user_key.pub")"]
push = ["demo/**"]
END
cat >"$work/sshd_config" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $work/host_key
AuthorizedKeysFile $work/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Match User $(id -un)
    $force
    ExposeAuthInfo yes
END
echo "[127.0.0.1]:$port $(cat "$work/host_key.pub")" >"$work/known_hosts"
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
/usr/sbin/sshd -D -e -f "$work/sshd_config" 2>"$work/sshd.log" &
pids+=($!)
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
echo "sshd_config: Match User $(id -un)"
echo "                 $(shown "$force")"
echo "                 ExposeAuthInfo yes"
echo "artifact-cache.toml: the key of alice may push demo/**"

export ARTIFACT_CACHE_SSH="ssh -F none -i $work/user_key -o IdentitiesOnly=yes -o BatchMode=yes \
-o UserKnownHostsFile=$work/known_hosts -o StrictHostKeyChecking=yes"
remote=ssh://$(id -un)@127.0.0.1:$port/artifacts

say "3. Alice checks that she gets there"
run "$bin/artifact-cache" check --remote "$remote"

say "4. She pushes"
start=$(now)
run "$bin/artifact-cache" push --repo "$cache" --remote "$remote" demo/include.bst/key1
first_time=$(since "$start")
first_objects=$(objects)
first_size=$(size "$work/artifacts/objects")

say "5. She pushes again: nothing is sent"
start=$(now)
run "$bin/artifact-cache" push --json --repo "$cache" --remote "$remote" demo/include.bst/key1 \
    >"$work/second"
second_time=$(since "$start")
second_objects=$(number objects_sent "$work/second")
echo "objects sent: $second_objects"
[ "$second_objects" = 0 ]

say "6. She changes three files, adds one, removes one, and pushes the new build"
for header in stdio.h stdlib.h string.h; do
    echo "/* changed */" >>"$work/tree/include/$header"
done
echo "new" >"$work/tree/new-file"
rm "$work/tree/include/math.h"
ostree commit --repo="$cache" --branch=demo/include.bst/key2 --tree=dir="$work/tree" \
    --owner-uid=0 --owner-gid=0 --no-xattrs >/dev/null
start=$(now)
run "$bin/artifact-cache" push --json --repo "$cache" --remote "$remote" demo/include.bst/key2 \
    >"$work/third"
third_time=$(since "$start")
third_objects=$(number objects_sent "$work/third")
third_bytes=$(number bytes_sent "$work/third")
echo "objects sent: $third_objects, bytes: $third_bytes"

say "7. She pushes to a name that is not hers: refused, with the reason"
ostree refs --repo="$cache" --create=other/include.bst/key1 demo/include.bst/key1
refused=0
run "$bin/artifact-cache" push --repo "$cache" --remote "$remote" other/include.bst/key1 || refused=$?
[ "$refused" = 3 ]

say "8. Somebody else looks what there is, and pulls it over http"
printf 'artifacts:\n- url: %s\n' "$pull_url" >"$work/artifact-cache.yaml"
run "$bin/artifact-cache" list --config "$work/artifact-cache.yaml"
start=$(now)
run "$bin/artifact-cache" pull --config "$work/artifact-cache.yaml" --repo "$work/other-cache" \
    demo/include.bst/key2
pull_time=$(since "$start")
ostree checkout --repo="$work/other-cache" -U demo/include.bst/key2 "$work/checkout"
listed() { (cd "$1" && find . -mindepth 1 -printf '%P %y %m %l\n' | sort); }
same() {
    run diff -r --no-dereference "$work/tree" "$1"
    diff <(listed "$work/tree") <(listed "$1")
    echo "equal: every byte, every mode, every symbolic link"
}
same "$work/checkout"

say "9. And somebody else who has only stock ostree"
ostree init --repo="$work/third-cache" --mode=bare-user
ostree remote add --repo="$work/third-cache" --no-gpg-verify shared "$pull_url"
run ostree pull --repo="$work/third-cache" shared demo/include.bst/key2 | tail -n 1
ostree checkout --repo="$work/third-cache" -U shared:demo/include.bst/key2 "$work/checkout-2"
same "$work/checkout-2"

say "10. The server's administrator checks every object"
run "$bin/artifact-cache-admin" fsck "$work/artifacts"
run ostree fsck --repo="$work/artifacts" | tail -n 1

say "In short"
cat <<END
  the artifact          $files files, $tree_size
  first push            $first_objects objects, $first_size as stored, in $first_time
  the same again        $second_objects objects, in $second_time
  after a small change  $third_objects objects, $third_bytes bytes, in $third_time
  a name not hers       refused, with the reason
  pulled over http      in $pull_time, and again with stock ostree: equal to what was built
Each object was verified, and each push safe on disk, before its ref was to be seen.
END
