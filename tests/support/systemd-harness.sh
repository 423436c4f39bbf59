#!/bin/bash
# systemd-harness.sh - boot a private, real systemd as PID 1 of its own PID namespace, for tests.
#
#   systemd-harness.sh start [OPTIONS] UNITS_DIR STATE_DIR   boot, wait until up, record the PIDs
#   systemd-harness.sh exec  STATE_DIR [--] CMD...           run CMD inside (mount, pid, uts, ipc, cgroup, net)
#   systemd-harness.sh stop  STATE_DIR                       stop all units, then SIGKILL systemd by its recorded pid
#
# OPTIONS of start
#   --root DIR       boot the systemd of that root tree, of which nothing is changed (default: this machine's root)
#   --bind-ro P:Q    show host path P inside at Q, read-only
#   --owner PID      when that process is gone, so is the harness
#   --timeout S      seconds to wait for the boot (default 30)
#
# Needs root, Linux with cgroup2 (mounted or not), bash, util-linux, bsdutils, systemd. PID 1 need not be systemd.
#
# Another systemd than the machine's own, here for all tests that boot one (debootstrap is Debian's package of that name):
#
#   debootstrap --variant=minbase --include=systemd,curl trixie /var/tmp/trixie
#   SYSTEMD_ROOT=/var/tmp/trixie tests/run --test systemd --test unit_check
#
# That takes 250 MB. A release that the machine's debootstrap does not know yet needs the script of another one, after the mirror:
# forky /var/tmp/forky MIRROR /usr/share/debootstrap/scripts/sid. What is built here must run there, so that system's C library
# must not be older than this one's.
#
# The units of UNITS_DIR become the only unit path, /run/units, beside minimal stubs of the standard targets. Booted is
# test.target, which Wants= every *.socket of UNITS_DIR. Services without a StandardOutput= of their own log to
# STATE_DIR/log/NAME.service.log; the manager logs to STATE_DIR/console.log.
# STATE_DIR is shown inside at the same path and is the only place of the host that can be written; / is read-only (with
# --root: gone with the harness), /run /var /dev /tmp are fresh, and the network has lo alone.
# STATE_DIR/systemd.pid holds systemd's pid out here and its start time.
set -u
export LC_ALL=C
die() { echo "systemd-harness: $*" >&2; exit 1; }
self=$(readlink -f "${BASH_SOURCE[0]}")

starttime() { # PID -> start time in ticks, empty if there is no such process
    local s; { s=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    s=${s##*) }; set -- $s; echo "${20}"
}
running() { # PID START: is it still that process, and no zombie?
    local s; [ -n "$2" ] && [ "$(starttime "$1")" = "$2" ] || return 1
    { s=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    s=${s##*) }; [ "${s%% *}" != Z ]
}
alive() { # NAME: what STATE/NAME.pid recorded
    local p t; { read -r p t <"$STATE/$1.pid"; } 2>/dev/null && running "$p" "$t"
}
pid_of() { local p t; read -r p t <"$STATE/$1.pid" && echo "$p"; }
sig() { alive "$1" && kill "-$2" "$(pid_of "$1")"; }   # signals only what was recorded and still is it
record() { echo "$2 $(starttime "$2")" >"$STATE/$1.pid"; }

rm_cgroup() { # DIR: remove an empty cgroup tree, deepest first
    local i d
    for i in 1 2 3 4 5 6 7 8 9 10; do
        [ -d "$1" ] || return 0
        find "$1" -depth -type d 2>/dev/null | while read -r d; do rmdir "$d" 2>/dev/null; done
        [ -d "$1" ] || return 0
        sleep 0.1
    done
    echo "systemd-harness: cgroup $1 is not empty" >&2
}

# ---- inside: PID 1 of the new PID namespace, in a mount namespace of its own -------------------------
stub() { # NAME, text on stdin: a unit of that name unless the caller brought one
    [ -e "$U/$1" ] || cat >"$U/$1"
}
stub_units() {
    local t f n
    for t in sysinit basic sockets timers paths local-fs local-fs-pre remote-fs network network-online \
             nss-lookup time-sync multi-user default shutdown umount final; do
        stub $t.target <<<$'[Unit]\nDefaultDependencies=no'
    done
    stub harness-halt.target <<<$'[Unit]\nDefaultDependencies=no\nRequires=shutdown.target\nAfter=shutdown.target'
    { echo '[Unit]'; for f in "$U"/*.socket; do [ ! -f "$f" ] || echo "Wants=${f##*/}"; done; } >"$U/test.target"
    for f in "$U"/*.service; do
        [ -f "$f" ] || continue; n=${f##*/}
        grep -qsE '^Standard(Output|Error)=' "$f" && continue
        mkdir -p "$U/$n.d"
        printf '[Service]\nStandardOutput=append:%s/log/%%n.log\nStandardError=inherit\n' "${STATE//%/%%}" >"$U/$n.d/00-harness-log.conf"
    done
}
devs() { # DIR: a private /dev there, with this pty as its console
    local n tty; tty=$(tty) || tty=
    mount -t tmpfs -o mode=755,nosuid harnessdev "$1" || return
    mkdir "$1/pts" "$1/shm"
    for n in null zero full random urandom tty; do : >"$1/$n" && mount --bind /dev/$n "$1/$n"; done
    : >"$1/console"; [ -n "$tty" ] && mount --bind "$tty" "$1/console"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$1/pts"
    mount -t tmpfs -o mode=1777,nosuid,nodev harnessshm "$1/shm"
    ln -s pts/ptmx "$1/ptmx"; ln -s /proc/self/fd "$1/fd"
    for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${n%:*}" "$1/${n#*:}"; done
}
host_root() { # DIR: this machine's root there, without /proc /sys /dev /run, all of it read-only
    local _ m
    mount --rbind / "$1" && mount --make-rprivate "$1" || die "cannot bind /"
    for m in proc sys dev run; do umount -R "$1/$m" 2>/dev/null; done
    while read -r _ _ _ _ m _; do
        m=$(printf %b "$m")
        case $m in "$1" | "$1"/*) mount -o remount,bind,ro "$m" || umount -l "$m" || die "cannot make $m read-only" ;; esac
    done </proc/self/mountinfo
    mount -t tmpfs -o mode=755 harnessvar "$1/var"
    mkdir -m 1777 "$1/var/tmp"; mkdir "$1"/var/{lib,log,cache,spool}; ln -s /run "$1/var/run"
    mount -t tmpfs -o mode=755,nosuid,nodev harnessrun "$1/run"
    mount -t tmpfs -o mode=1777 harnesstmp "$1/tmp"
    [ -d "$1/etc/systemd" ] && mount -t tmpfs -o mode=755,ro harnessetc "$1/etc/systemd"   # its system.conf is not ours
    [ -s "$1/etc/machine-id" ] && return        # systemd does not boot without one on a read-only /etc
    mkdir "$hold/ov/u" "$hold/ov/w"
    mount -t overlay -o "lowerdir=/etc,upperdir=$hold/ov/u,workdir=$hold/ov/w" harnessetc "$1/etc" || die "overlay on /etc"
    tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"
}
tree_root() { # DIR: the tree $ROOT there, in memory where it is changed
    mkdir "$hold/ov/u" "$hold/ov/w"
    mount -t overlay -o "lowerdir=$ROOT,upperdir=$hold/ov/u,workdir=$hold/ov/w" harnessroot "$1" || die "overlay on $ROOT"
    mount -t tmpfs -o mode=755,nosuid,nodev harnessrun "$1/run"
    mount -t tmpfs -o mode=1777 harnesstmp "$1/tmp"
    rm -rf "$1"/etc/systemd/system.conf*        # not ours
    [ -s "$1/etc/machine-id" ] || tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"
}
boot() {
    local b i o p q U init hold=$STATE/.mnt R=$STATE/.mnt/root
    local -a dests=() env
    mount --make-rprivate / || die "make-rprivate"
    mkdir -p "$hold" && mount -t tmpfs -o mode=755 harnesshold "$hold" && mount --make-unbindable "$hold" || die "tmpfs"
    mkdir "$hold/root" "$hold/ov" "$hold/b" && mount -t tmpfs -o mode=755 harnessov "$hold/ov" || die "tmpfs"
    i=0     # hold every path that is to be shown inside before anything hides it
    for b in "rw:$STATE:$STATE" "${BINDS[@]}"; do
        o=${b%%:*}; b=${b#*:}; p=${b%%:*}; q=${b#*:}
        if [ -d "$p" ]; then mkdir "$hold/b/$i"; else : >"$hold/b/$i"; fi
        mount --bind "$p" "$hold/b/$i" || die "cannot bind $p"
        [ "$o" = rw ] || mount -o remount,bind,ro "$hold/b/$i"
        dests+=("$o:$q"); i=$((i + 1))
    done
    if [ "$ROOT" ]; then tree_root "$R"; else host_root "$R"; fi
    devs "$R/dev" || die "cannot make /dev"
    mount -t proc -o nosuid,nodev,noexec proc "$R/proc" || die "proc"
    mount --bind "$R/proc/sys" "$R/proc/sys" && mount -o remount,bind,ro "$R/proc/sys" || die "proc/sys"  # the host's sysctls
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$R/sys" || die "sysfs"
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$R/sys/fs/cgroup" || die "cgroup2"
    U=$R/run/units; mkdir "$U"; cp -a "$UNITS/." "$U/" && chown -R 0:0 "$U" && chmod -R go-w "$U" || die "cannot copy the units"
    stub_units
    i=0
    for b in "${dests[@]}"; do
        o=${b%%:*}; q=$R${b#*:}
        if [ ! -e "$q" ]; then
            if [ -d "$hold/b/$i" ]; then mkdir -p "$q"; else mkdir -p "${q%/*}" && : >"$q"; fi || die "no place for ${b#*:} inside"
        fi
        mount --bind "$hold/b/$i" "$q" || die "cannot show ${b#*:} inside"
        [ "$o" = rw ] || mount -o remount,bind,ro "$q"
        i=$((i + 1))
    done
    init=/usr/lib/systemd/systemd
    [ -x "$R$init" ] || init=/lib/systemd/systemd
    [ -x "$R$init" ] || die "no systemd in ${ROOT:-/}"
    cd "$R" && pivot_root . . && umount -l . && cd / || die "pivot_root"
    env=(container=unshare PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
        SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none)
    exec env -i "${env[@]}" $init --system --unit=test.target --log-target=console --log-color=no --log-time=yes --show-status=no
}

load() { [ -f "$STATE/config" ] || die "no harness in $STATE"; . "$STATE/config"; }

case ${1-} in
start)
    shift
    ROOT='' OWNER='' TIMEOUT=30 BINDS=()
    while [ $# -gt 0 ]; do
        case $1 in
        --root) ROOT=$(readlink -f "$2") && [ -d "$ROOT/usr" ] || die "no root tree: $2"; shift 2 ;;
        --bind-ro) [ -e "${2%%:*}" ] || die "no such path: $2"; BINDS+=("ro:$(readlink -f "${2%%:*}"):${2#*:}"); shift 2 ;;
        --owner) OWNER="$2 $(starttime "$2")"; [ "${OWNER#* }" ] || die "no process $2"; shift 2 ;;
        --timeout) TIMEOUT=$2; shift 2 ;;
        --) shift; break ;;
        -*) die "unknown option $1" ;;
        *) break ;;
        esac
    done
    [ $# -eq 2 ] || die "start [OPTIONS] UNITS_DIR STATE_DIR"
    [ "$(id -u)" = 0 ] || die "must be root"
    UNITS=$(readlink -f "$1"); [ -d "$UNITS" ] || die "no such folder: $1"
    mkdir -p "$2/log" || exit; STATE=$(readlink -f "$2")
    case $STATE in *[:,]*) die "no ':' or ',' in the path of STATE_DIR" ;; esac
    case $ROOT in *[:,]*) die "no ':' or ',' in the path of a root tree" ;; esac
    alive systemd || alive supervisor && die "a harness runs in $STATE already"
    CG=test-systemd-$$-$(tr -dc a-f0-9 </proc/sys/kernel/random/uuid | cut -c1-8)
    declare -p ROOT OWNER BINDS UNITS CG | sed 's/^declare /declare -g /' >"$STATE/config"
    setsid unshare --mount --propagation private bash "$self" __supervise "$STATE" </dev/null >"$STATE/supervisor.log" 2>&1 &
    sup=$! t=0 up=
    disown
    while [ $t -lt $((TIMEOUT * 20)) ]; do
        sleep 0.05; t=$((t + 1))
        [ -e "$STATE/exit-code" ] || ! kill -0 $sup 2>/dev/null && break
        alive systemd || continue
        case $(bash "$self" exec "$STATE" systemctl is-system-running 2>/dev/null) in
        running | degraded) up=1; break ;;
        esac
    done
    [ "$up" ] && [ "$(bash "$self" exec "$STATE" systemctl is-active test.target)" = active ] && exit 0
    echo "systemd-harness: did not come up; last words:" >&2
    tail -n 25 "$STATE/supervisor.log" "$STATE/console.log" >&2
    bash "$self" stop "$STATE"
    exit 1
    ;;
__supervise) # in a mount namespace of its own: makes the cgroup, holds the pty, cleans up
    STATE=$2; load; cd /; record supervisor $$
    mount -t cgroup2 none /sys/fs/cgroup && mkdir "/sys/fs/cgroup/$CG" || die "cannot make a cgroup"
    export HARNESS_SELF=$self HARNESS_STATE=$STATE SHELL=/bin/sh
    watcher=
    if [ "$OWNER" ]; then
        while running ${OWNER}; do sleep 0.3; done && sig systemd KILL &
        watcher=$!
    fi
    script -q -e -f -c 'exec unshare --fork --kill-child --pid --mount --uts --ipc --net bash "$HARNESS_SELF" __init "$HARNESS_STATE"' \
        "$STATE/console.log" </dev/null >/dev/null
    rc=$?
    [ "$watcher" ] && kill "$watcher" 2>/dev/null
    rm_cgroup "/sys/fs/cgroup/$CG"
    rmdir "$STATE/.mnt" 2>/dev/null; rm -f "$STATE"/{systemd,supervisor}.pid
    echo $rc >"$STATE/exit-code"
    ;;
__init) # PID 1 of the new namespace; /proc is still the caller's, so /proc/self is our pid out there
    STATE=$2; load
    read -r p _ </proc/self/stat; record systemd "$p"
    echo 0 >"/sys/fs/cgroup/$CG/cgroup.procs" || die "cannot enter the cgroup"
    exec unshare --cgroup bash "$self" __boot "$STATE"
    ;;
__boot) STATE=$2; load; boot ;;
exec)
    [ $# -ge 3 ] || die "exec STATE_DIR [--] CMD..."
    STATE=$(readlink -f "$2"); load; shift 2; [ "$1" = -- ] && shift
    alive systemd && p=$(pid_of systemd) || die "no harness runs in $STATE"
    # before it has pivoted, a systemctl inside would find the host's own systemd
    [ "$(cat "/proc/$p/comm" 2>/dev/null)" = systemd ] || die "the harness in $STATE is still booting"
    exec nsenter -t "$p" -m -p -C -u -i -n -- env SYSTEMD_UNIT_PATH=/run/units SYSTEMD_PAGER= SYSTEMD_COLORS=0 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ;;
stop)
    [ $# -eq 2 ] || die "stop STATE_DIR"
    STATE=$(readlink -f "$2"); load
    gone() { local i; for ((i = 0; i < $2 * 20; i++)); do alive "$1" || return 0; sleep 0.05; done; return 1; }
    if alive systemd; then
        # Not systemd-shutdown: it SIGSTOPs all it sees, on which the nsenter of a running exec stops itself for good.
        timeout 10 bash "$self" exec "$STATE" systemctl start harness-halt.target >/dev/null 2>&1 ||
            echo "systemd-harness: not all units stopped in an orderly way" >&2
        sig systemd KILL    # as its init, it takes the whole PID namespace with it
        gone systemd 10
    fi
    gone supervisor 5 || { sig supervisor TERM; gone supervisor 2 || sig supervisor KILL; }
    rmdir "$STATE/.mnt" 2>/dev/null
    unshare --mount --propagation private bash -c 'mount -t cgroup2 none /sys/fs/cgroup; [ ! -d "/sys/fs/cgroup/$2" ] || bash "$1" __rmcg "/sys/fs/cgroup/$2"' - "$self" "$CG"
    rm -f "$STATE"/{systemd,supervisor}.pid
    ! alive systemd
    ;;
__rmcg) rm_cgroup "$2" ;;
*) sed -n '2,/^set -u/{/^set/d;s/^# \{0,1\}//;p}' "$self"; exit 2 ;;
esac
