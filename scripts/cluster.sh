#!/usr/bin/env bash
# A local cluster: any number of brainy processes that share one store.
#
#     scripts/cluster.sh start [--store URL] [--nodes N] [--writers N] [--readers N] [--hybrids N] [-- FLAGS]
#     scripts/cluster.sh join [ROLE [ID]]      start one more node; a reader where no ROLE is named
#     scripts/cluster.sh leave ID              stop one: it finishes what it has begun and leaves
#     scripts/cluster.sh status                the nodes as the cluster sees them
#     scripts/cluster.sh stop                  stop all
#
# Every command takes --state DIR (default ./brainy-cluster), where pid files and logs are kept, and
# --binary FILE (default: target/release/brainy or target/debug/brainy of this checkout, or brainy from
# the PATH). `start` uses the folder DIR/store unless --store names another folder or s3://bucket/prefix
# (with the usual AWS_* variables). --nodes 3 is a writer and two readers, --nodes 1 a hybrid. FLAGS go
# to every `brainy serve`, also of nodes that join later: -- --set heartbeat_interval_ms=2000
set -euo pipefail

START_SECONDS_MAX=60
# `brainy serve` gives up on what is in flight after shutdown_timeout_ms, 30 seconds by default.
STOP_SECONDS_MAX=45

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
}

# ---- processes: a node is a folder in the state folder, with its pid, role and output -----------------

# When a process started: a process id alone may have been reused.
birth() { ps -o lstart= -p "$1" 2>/dev/null; }

# Whether the process of a node runs; sets `pid`.
runs() {
    local born
    { IFS=' ' read -r pid born <"$state/nodes/$1/pid"; } 2>/dev/null &&
        [ "$(birth "$pid")" = "$born" ]
}

endpoint() { sed -n 's/^listening on //p' "$state/nodes/$1/out" 2>/dev/null; }

ids() { [ ! -d "$state/nodes" ] || ls "$state/nodes"; }

# Starts a node and does not wait for it.
launch() {
    local role=$1 id=$2 folder=$state/nodes/$2 pid flags=()
    ! runs "$id" || fail "$id runs already (process $pid)"
    mkdir -p "$folder" "$state/logs"
    echo "$role" >"$folder/role"
    mapfile -t flags <"$state/flags"
    : >"$folder/out"
    "$(<"$state/binary")" serve --store "$(<"$state/store-url")" --role "$role" --instance-id "$id" \
        --listen 127.0.0.1:0 ${flags[@]+"${flags[@]}"} \
        </dev/null >"$folder/out" 2>>"$state/logs/$id.log" &
    pid=$!
    disown
    echo "$pid $(birth "$pid")" >"$folder/pid"
}

# Waits until a node says where it listens, and prints that.
await_ready() {
    local id=$1 deadline=$((SECONDS + START_SECONDS_MAX)) url
    until url=$(endpoint "$id") && [ -n "$url" ]; do
        if ! runs "$id" || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$state/logs/$id.log" >&2
            fail "$id did not start; the end of its log is above"
        fi
        sleep 0.1
    done
    printf '%-8s %-20s %s\n' "$(<"$state/nodes/$id/role")" "$id" "$url"
}

# Tells a node to stop; it leaves the cluster by itself.
tell_to_stop() { ! runs "$1" || kill -TERM "$pid" 2>/dev/null || true; }

await_end() {
    local id=$1 deadline=$((SECONDS + STOP_SECONDS_MAX))
    while runs "$id"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "cluster.sh: $id (process $pid) does not stop, so it is killed" >&2
            kill -KILL "$pid" 2>/dev/null || true
            deadline=$((SECONDS + STOP_SECONDS_MAX))
        fi
        sleep 0.1
    done
    rm -rf "${state:?}/nodes/$id"
}

# ---- commands -------------------------------------------------------------------------------------

find_binary() {
    local root found
    root=$(cd "$(dirname "$0")/.." && pwd)
    for found in "${binary:-}" "$root/target/release/brainy" "$root/target/debug/brainy"; do
        if [ -x "$found" ]; then
            (cd "$(dirname "$found")" && echo "$PWD/${found##*/}")
            return
        fi
        [ -z "${binary:-}" ] || fail "$binary cannot be run"
    done
    command -v brainy || fail "there is no brainy; build it (cargo build --release) or name it: --binary FILE"
}

start() {
    local id role count
    for id in $(ids); do
        ! runs "$id" || fail "a cluster runs in $state already; stop it, or use another --state DIR"
    done
    [ -z "$nodes$writers$readers$hybrids" ] && nodes=3
    if [ -n "$nodes" ]; then
        if [ "$nodes" = 1 ] && [ -z "$writers$readers$hybrids" ]; then
            hybrids=1
        fi
        [ -n "$writers" ] || [ "${hybrids:-0}" -gt 0 ] || writers=1
        [ -n "$readers" ] || readers=$((nodes - ${writers:-0} - ${hybrids:-0}))
        [ $((${writers:-0} + ${readers:-0} + ${hybrids:-0})) = "$nodes" ] ||
            fail "--writers, --readers and --hybrids do not add up to --nodes $nodes"
    fi
    mkdir -p "$state"
    rm -rf "$state/nodes"
    echo "${store:-file://$state/store}" >"$state/store-url"
    find_binary >"$state/binary"
    : >"$state/flags"
    [ "$#" = 0 ] || printf '%s\n' "$@" >"$state/flags"
    local started=()
    for role in writer reader hybrid; do
        count=${role}s
        for ((id = 1; id <= ${!count:-0}; id++)); do
            launch "$role" "$role-$id"
            started+=("$role-$id")
        done
    done
    [ ${#started[@]} -gt 0 ] || fail "a cluster needs a node: --nodes N"
    echo "store    $(<"$state/store-url")"
    for id in "${started[@]}"; do await_ready "$id"; done
}

join() {
    local role=${1:-reader} id=${2:-} number=1
    case $role in writer | reader | hybrid) ;; *) fail "the role is writer, reader or hybrid, not $role" ;; esac
    if [ -z "$id" ]; then
        while [ -e "$state/nodes/$role-$number" ]; do number=$((number + 1)); done
        id=$role-$number
    fi
    [ -z "${binary:-}" ] || find_binary >"$state/binary"
    launch "$role" "$id"
    await_ready "$id"
}

leave() {
    [ -n "${1:-}" ] && [ -e "$state/nodes/$1" ] || fail "name a node of this cluster: $(ids | xargs)"
    tell_to_stop "$1"
    await_end "$1"
    echo "$1 has left"
}

status() {
    local id url
    for id in $(ids); do
        if runs "$id" && url=$(endpoint "$id") && [ -n "$url" ]; then
            "$(<"$state/binary")" cluster nodes --url "$url" && return
        fi
    done
    fail "no node of this cluster answers"
}

stop() {
    local id
    for id in $(ids); do tell_to_stop "$id"; done
    for id in $(ids); do await_end "$id"; done
    echo "stopped; the data stays in $(<"$state/store-url"), the logs in $state/logs"
}

# ---- command line -----------------------------------------------------------------------------------

store='' nodes='' writers='' readers='' hybrids='' binary='' state=./brainy-cluster
words=() rest=()
while [ $# -gt 0 ]; do
    case $1 in
        --store | --nodes | --writers | --readers | --hybrids | --binary | --state)
            [ $# -ge 2 ] || fail "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        --) shift; rest=("$@"); break ;;
        -*) usage ;;
        *) words+=("$1"); shift ;;
    esac
done
for count in "$nodes" "$writers" "$readers" "$hybrids"; do
    [[ $count =~ ^[0-9]*$ ]] || fail "$count is not a number of nodes"
done
case ${words[0]:-} in
    start) mkdir -p "$state" ;;
    join | leave | status | stop) [ -e "$state/store-url" ] || fail "there is no cluster in $state; start one" ;;
    *) usage ;;
esac
state=$(cd "$state" && pwd)
case ${words[0]} in
    start) start ${rest[@]+"${rest[@]}"} ;;
    *) "${words[0]}" "${words[@]:1}" ;;
esac
