#!/bin/sh
# Makes a fresh machine a single-use GitHub runner, and ends the machine whatever happens.
#
# boot.py fills in the values and drops the comments. The script walks through its phases; a watcher
# beside it holds the timers, so that the death of one does not keep the machine alive. It needs no
# cloud key and no network to end the machine, only sh, grep, sed and coreutils.
#
# In ROOT: boot.log (all output), runner.log (the runner's), the same of the last boot as *.log.1,
# runner/ (the runner, its user's own), phase, failed, listener, boot.claim.N (state). Every report
# is one line, in boot.log and CONSOLE:
#   gpu-ci boot EPOCH phase NAME | beat NAME | gpu TEXT | listening | failed NAME REASON | ended REASON
# Exit code: 0 the runner has listened, 1 it has not, 75 another boot script is at work here; a
# signal's where the watcher, or on a machine that is kept the next boot, ends the script. Its standard
# output stays empty.
#
# A machine that is kept boots many times on the same ROOT, with all else as in its image or all as it
# was left. Nothing that the last boot said is believed. What its job could, it may have planted: root
# writes only in ROOT, which is root's own, or where no process of the job's is left.
#
# From the environment, for tests; times in whole seconds where nothing else is said:
#   GPU_CI_BOOT_TICK      between two looks of the watcher, fractions allowed (5; 1 if times are short)
#   GPU_CI_BOOT_BEAT      between two heartbeats (20; 1 if times are short)
#   GPU_CI_BOOT_HOLD      how long a failed machine stays so that its console can be read (90; 0 if kept)
#   GPU_CI_BOOT_GRACE     between TERM and KILL (10)
#   GPU_CI_BOOT_TURN      how long the end of another boot script is waited for (20)
#   GPU_CI_BOOT_PATIENCE  how long one way to power off may take before the next is tried (60)
#   GPU_CI_BOOT_PAUSE     before the second try of anything; doubles up to 15 (1)
#   GPU_CI_BOOT_TRIES     how often anything is tried (20 network, 10 GPU, 8 others)
#   GPU_CI_BOOT_DISK_MIB  how much disk must be free (1024)
#   GPU_CI_BOOT_GPU_USED  how much of a GPU's memory may be in use before the job, in percent (25)
#   GPU_CI_BOOT_SYSRQ     the last way to power off (/proc/sysrq-trigger)
#   GPU_CI_BOOT_START     what is gone at a kept machine's next start (/dev/shm/gpu-ci-start)
#   GPU_CI_BOOT_INSTANCE  where cloud-init keeps the machine's id (/var/lib/cloud/data/instance-id)
# shellcheck disable=SC2317 # functions are reached through retry and trap

# No -e and no -u: a slip in here must never end the watcher. No -x: the values hold a secret.
{ set +eux; } 2>/dev/null
umask 077

# What the caller's environment holds is neither ours nor the runner's: it may be another job's, with
# its secrets, and a variable of it with a name of ours would export our value. `command` keeps the
# shell alive where a name is read-only. First of all, because the values come after it.
for name in $(env -0 | tr '\n\0' ' \n' | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    case $name in
        PATH | LANG | *_proxy | *_PROXY | GPU_CI_BOOT_*) ;;
        *) command unset "$name" 2>/dev/null ;;
    esac
done

# The values. boot.py replaces these lines.
MACHINE=''
ROOT=''
ACCOUNT=''
USER_HOME=''
CONSOLE=''
ENDS_BY=''
RUNNERS=''
JIT_CONFIG=''
TOKEN=''
URL=''
GROUP=''
LABELS=''
PICKUP=''
IDLE=''
LIFETIME=''
GPUS=''
SETUP_SCRIPT=''
variables() { :; }

tick=5 beat=20 hold=90
# The log of a machine that is kept can be read later, and its next boot would have to wait.
[ -z "$USER_HOME" ] || hold=0
for limit in "$PICKUP" "$IDLE" "$LIFETIME"; do
    [ "$limit" -ge 60 ] || tick=1 beat=1
done
tick=${GPU_CI_BOOT_TICK:-$tick}
beat=${GPU_CI_BOOT_BEAT:-$beat}
hold=${GPU_CI_BOOT_HOLD:-$hold}
grace=${GPU_CI_BOOT_GRACE:-10}
turn=${GPU_CI_BOOT_TURN:-20}
patience=${GPU_CI_BOOT_PATIENCE:-60}
first_pause=${GPU_CI_BOOT_PAUSE:-1}
tries=${GPU_CI_BOOT_TRIES:-}
disk_mib=${GPU_CI_BOOT_DISK_MIB:-1024}
gpu_used=${GPU_CI_BOOT_GPU_USED:-25}
sysrq=${GPU_CI_BOOT_SYSRQ:-/proc/sysrq-trigger}
start=${GPU_CI_BOOT_START:-/dev/shm/gpu-ci-start}
instance=${GPU_CI_BOOT_INSTANCE:-/var/lib/cloud/data/instance-id}
for name in TICK BEAT HOLD GRACE TURN PATIENCE PAUSE TRIES DISK_MIB GPU_USED SYSRQ START INSTANCE; do
    unset "GPU_CI_BOOT_$name"
done

export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"
export LANG="${LANG:-C.UTF-8}"
HOME=$(eval "echo ~$(id -un)")
export HOME

# --- what is said, and to whom ---------------------------------------------------------------------

say() {
    line="gpu-ci boot $(date +%s) $(printf '%s' "$*" | tr -s '\r\n\t' ' ' | cut -c1-400)"
    printf '%s\n' "$line"
    [ -z "$CONSOLE" ] || printf '%s\n' "$line" >>"$CONSOLE"
} 2>/dev/null

phase() {
    alive "$watcher" || arm
    phase=$1
    echo "$1" >"$ROOT/phase"
    say phase "$1"
}

failed() {
    say failed "$@"
    # Not with `:`, which is special: where it cannot write the shell would end, and with it the timers.
    echo >"$ROOT/failed"
}

fail() {
    failed "$phase" "$1"
    exit 1
}

last_words() {
    # Not our own, nor those with which run.sh takes leave whatever has happened.
    grep -v -e '^gpu-ci boot ' -e '^[[:space:]]*$' -e '^Exiting runner' -e '^Runner listener exit' \
        "$1" | tail -n 1
}

# --- processes: known by pid, start and boot, since a pid alone is used again -----------------------

this_boot() {
    # In a container pids begin anew at each start, with some kinds of container their starts do too,
    # and the kernel's id is the host's. A folder in memory tells one start from the next.
    boot=$(cat /proc/sys/kernel/random/boot_id)
    [ -z "$USER_HOME" ] || { mkdir "$start"; boot=$boot-$(stat -c %Y "$start"); }
} 2>/dev/null

now() {
    # Not the clock of the day, which jumps when it is set.
    if read -r up _ </proc/uptime; then echo "${up%.*}"; else date +%s; fi
} 2>/dev/null

stamp() {
    read -r stat <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # fields: state, parent, group, session, … the 20th is the start
    set -- "$1" ${stat##*) }
    [ "$2" != Z ] && echo "$1 ${21} $boot"
} 2>/dev/null

alive() {
    [ -n "$1" ] && [ "$(stamp "${1%% *}")" = "$1" ]
}

grouped() {
    for file in /proc/[0-9]*/stat; do
        read -r stat <"$file" || continue
        # shellcheck disable=SC2086 # fields, as above
        set -- ${stat##*) }
        [ "$3" != "$group" ] && [ "$4" != "$group" ] || echo "${stat%% *}"
    done
} 2>/dev/null

remains() {
    # All that belongs to this machine but the caller and this subshell of it.
    read -r here _ </proc/self/stat
    for pid in $(marked) $(accounts) $(grouped); do
        [ "$pid" != "$self" ] && [ "$pid" != "$here" ] && stamp "$pid" >/dev/null && echo "$pid"
    done
}

marked() {
    grep -lszxF -e "GPU_CI_MACHINE=$MACHINE" /proc/[0-9]*/environ | cut -d/ -f3
}

accounts() {
    # On a kept machine the account is the runner's alone: what has left its group and forgotten its
    # environment is found as well. By the status, since a process can hide the owner of its folder.
    kept && number=$(id -u "$ACCOUNT") && [ "$number" -gt 0 ] &&
        grep -ls "^Uid:.*[[:space:]]${number}[[:space:]]" /proc/[0-9]*/status | cut -d/ -f3
} 2>/dev/null

kept() {
    [ -n "$USER_HOME" ] && [ "$(id -u)" = 0 ]
}

# --- refuse to run twice at once -------------------------------------------------------------------

held() {
    while read -r owner; do
        ! alive "$owner" || return 0
    done <"$1"
    return 1
} 2>/dev/null

refuse() {
    echo "gpu-ci: another boot script is at work in $ROOT" >&2
    exit 75
}

find_newest() {
    newest=0
    for file in "$ROOT"/boot.claim.[0-9]*; do
        ! [ "${file##*.}" -gt "$newest" ] || newest=${file##*.}
    done
} 2>/dev/null

end_owners() {
    # Stopped first: while the owner lives, the group that has its number is its own, and all of it
    # is caught, even a watcher that it was just arming.
    while read -r owner; do
        alive "$owner" || continue
        group=${owner%% *}
        kill -s STOP "$group"
        # shellcheck disable=SC2046 # one word for each process
        kill -s KILL "$group" $(grouped)
    done <"$1"
} 2>/dev/null

wait_for_turn() {
    # A job, even one without a watcher, goes on. Without one, the start that boots a kept machine has its
    # lock, and no job comes to the last boot's runner any more; elsewhere a watcher needs a moment.
    deadline=$(($(now) + turn))
    while :; do
        ! job_runs || refuse
        find_newest
        held "$ROOT/boot.claim.$newest" || return
        [ -z "$USER_HOME" ] || end_owners "$ROOT/boot.claim.$newest"
        [ "$(now)" -lt "$deadline" ] || refuse
        sleep 0.2
    done
}

claim() {
    # The highest number whose owner lives holds ROOT. Any doubt is resolved by going on: a machine
    # with two boot scripts ends itself, one with none does not.
    wait_for_turn
    claim=$ROOT/boot.claim.$((newest + 1))
    if ! (set -C && echo "$main" >"$claim") 2>/dev/null; then
        sleep 1
        ! held "$claim" || refuse
    fi
    for file in "$ROOT"/boot.claim.*; do
        [ "$file" = "$claim" ] || rm -f "$file"
    done
}

# --- a folder of root's own ------------------------------------------------------------------------

unplant() {
    # A link of root's is the owner's wish, any other may be a job's.
    [ ! -L "$1" ] || [ "$(stat -c %u "$1")" = 0 ] || rm -f "$1"
}

make_root() {
    ! kept || unplant "${ROOT%/}"
    (umask 022 && mkdir -p "$ROOT")
    cd "$ROOT" && ROOT=$(pwd -P) && kept || return
    # Where others could write, a file may be a link to one of root's.
    [ -n "$(find . -prune -user 0 ! -perm /022)" ] ||
        { chown 0:0 . && chmod 755 . && find . -mindepth 1 -maxdepth 1 ! -type d -exec rm -f {} +; }
}

tidy_root() {
    # What the last boot said must not be heard again: not the runner's words either.
    rm -rf "$ROOT/phase" "$ROOT/failed" "$ROOT/listener" "$runner/_diag"
    for file in "$ROOT/boot.log" "$ROOT/runner.log"; do
        [ ! -e "$file" ] || mv -f "$file" "$file.1"
    done
}

# --- the end of the machine ------------------------------------------------------------------------

finish() {
    trap '' HUP INT TERM
    say ended "$1"
    if [ "$ENDS_BY" = poweroff ]; then power_off; else end_processes; fi
    exit 0
}

power_off() {
    while :; do
        shutdown -h now && sleep "$patience"
        poweroff -f && sleep "$patience"
        echo o >"$sysrq"
        sleep 5
    done
}

end_processes() {
    for signal in TERM KILL KILL KILL; do
        deadline=$(($(now) + grace))
        # shellcheck disable=SC2046 # one word for each process
        kill -s "$signal" $(remains) 2>/dev/null
        while [ -n "$(remains)" ] && [ "$(now)" -lt "$deadline" ]; do sleep 0.2; done
        [ -n "$(remains)" ] || return
    done
}

# --- the runner, by its logs: its exit code is 0 for nearly everything -------------------------------

in_logs() {
    # A job can put there what is no file, and would keep the watcher reading.
    grep -hs -D skip -m 1 "$1" "$ROOT/runner.log" "$runner"/_diag/Runner_*.log
}

listened() {
    [ -n "$(in_logs 'Listening for Jobs')" ]
}

trouble() {
    line=$(in_logs 'is deprecated and cannot receive messages' | head -n 1)
    [ -z "$line" ] || echo "GitHub refuses this version of the runner: $line"
    line=$(in_logs 'Must not run .*with sudo' | head -n 1)
    [ -z "$line" ] || echo "the runner was started as root: $line"
    line=$(grep -sE 'valid ICU package|loading shared libraries|CoreCLR' "$ROOT/runner.log" | head -n 1)
    [ -z "$line" ] || echo "a library that the runner needs is missing: $line"
}

worker_runs() {
    # shellcheck disable=SC2013 # these paths have no blanks
    for file in $(grep -lsF /bin/Runner.Worker /proc/[0-9]*/cmdline); do
        ! grep -qsF "$ROOT/" "$file" || return 0
        ! grep -qszxF "GPU_CI_MACHINE=$MACHINE" "${file%cmdline}environ" || return 0
    done
    return 1
}

job_runs() {
    # Two signs, either is enough: what runs, and what the listener has said of it.
    ! worker_runs || return 0
    alive "$(cat "$ROOT/listener" 2>/dev/null)" || return 1
    [ "$(grep -sc 'Running job:' "$ROOT/runner.log")" -gt \
        "$(grep -sc 'completed with result:' "$ROOT/runner.log")" ]
} 2>/dev/null

epilogue() {
    if grep -qs 'Running job:' "$ROOT/runner.log"; then
        echo "the runner is done with its job"
    else
        echo "the runner stopped without a job: $(last_words "$ROOT/runner.log")"
    fi
}

# --- the watcher -----------------------------------------------------------------------------------

arm() {
    watch &
    watcher=$(stamp $!)
    echo "$watcher" >>"$claim"
}

watch() {
    trap '' HUP
    trap 'finish "it was told to end"' TERM
    read -r self _ </proc/self/stat
    { echo -1000 >/proc/self/oom_score_adj; } 2>/dev/null
    failed_at='' listening_at='' busy_at='' beat_at=$born
    while :; do
        at=$(now)
        look
        sleep "$tick"
    done
}

look() {
    [ $((at - born)) -lt "$LIFETIME" ] || finish "it has lived for its $LIFETIME s"
    [ -n "$listening_at" ] || ! listened || hear
    if [ -e "$ROOT/failed" ] || [ -n "$failed_at" ]; then
        failed_at=${failed_at:-$at}
        [ $((at - failed_at)) -lt "$hold" ] || finish "the boot has failed"
    elif job_runs; then
        busy_at=$at
    elif ! alive "$main" && ! alive "$(cat "$ROOT/listener" 2>/dev/null)"; then
        look_after_exit
    elif [ -n "$(trouble)" ]; then
        failed_at=$at
        failed listen "$(trouble)"
    elif [ -z "$listening_at" ]; then
        look_before_listening
    elif [ $((at - busy_at)) -ge "$IDLE" ]; then
        finish "no job came for $IDLE s"
    fi
}

hear() {
    listening_at=$at busy_at=$at
    say listening
}

look_after_exit() {
    # Whatever was said before the exit may have been said after this look began.
    if [ -e "$ROOT/failed" ]; then
        return
    elif listened; then
        [ -n "$listening_at" ] || hear
        finish "$(epilogue)"
    else
        failed_at=$at
        failed "$(cat "$ROOT/phase" || echo user)" "the boot script was killed"
    fi
}

look_before_listening() {
    [ $((at - born)) -lt "$PICKUP" ] || finish "no runner listened within $PICKUP s"
    if [ $((at - beat_at)) -ge "$beat" ]; then
        beat_at=$at
        say beat "$(cat "$ROOT/phase")"
    fi
}

second_timer() {
    # Where systemd is, it ends the machine even if every process of ours has been killed.
    systemctl stop gpu-ci-lifetime.timer
    systemd-run --unit=gpu-ci-lifetime --on-active="$((LIFETIME + 60))" shutdown -h now
    # An upgrade in the background holds apt's lock and may replace the driver in use.
    systemctl mask --runtime --now --no-block apt-daily.timer apt-daily-upgrade.timer \
        unattended-upgrades.service
    end_at_reboot
} >/dev/null 2>&1

end_at_reboot() {
    # User data runs once: after a reboot there would be no timers, and no runner. A machine made from
    # this one's disk has another id, and boots.
    id=$(cat "$instance") || return
    cat >"$ROOT/rebooted.sh" <<END
[ "\$(cat '$instance')" != '$id' ] || shutdown -h now || poweroff -f
END
    cat >"$ROOT/gpu-ci-rebooted.service" <<END
[Unit]
After=cloud-init.service
[Service]
ExecStart=/bin/sh $ROOT/rebooted.sh
[Install]
WantedBy=multi-user.target
END
    systemctl enable "$ROOT/gpu-ci-rebooted.service"
}

# --- the phases ------------------------------------------------------------------------------------

retry() {
    left=${tries:-$1} pause=$first_pause
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep "$pause"
        pause=$((pause * 2 > 15 ? 15 : pause * 2))
    done
}

proxies() {
    # curl reads the lower case only, others either: both get what the one or the other says.
    for name in http_proxy https_proxy no_proxy; do
        upper=$(echo "$name" | tr '[:lower:]' '[:upper:]')
        value=$(variables && eval "printf %s \"\${$name:-\${$upper-}}\"")
        [ -z "$value" ] || export "$name=$value" "$upper=$value"
    done
}

answers() {
    case $fetcher in
        curl) curl -sSI -o /dev/null --connect-timeout 10 -m 30 "$url" ;;
        wget) timeout 60 wget -q --spider "$url" || [ $? = 8 ] ;;
        *)
            said=$(python3 -I -c 'import sys,urllib.request as u;u.urlopen(u.Request(sys.argv[1],method="HEAD"),timeout=20)' "$url" 2>&1) && return
            echo "$said"
            case $said in *'HTTP Error'*) return 0 ;; *) return 1 ;; esac
            ;;
    esac
}

network() {
    phase network
    proxies
    case $(uname -m) in
        x86_64 | amd64) architecture=x64 ;;
        aarch64 | arm64) architecture=arm64 ;;
        *) architecture=$(uname -m) ;;
    esac
    url=$(printf '%s\n' "$RUNNERS" | sed -n "s/^$architecture [^ ]* //p" | head -n 1)
    sha256=$(printf '%s\n' "$RUNNERS" | sed -n "s/^$architecture \([^ ]*\) .*/\1/p" | head -n 1)
    [ -n "$url" ] || fail "there is no runner for $architecture"
    for fetcher in curl wget python3 none; do
        ! command -v "$fetcher" >/dev/null || break
    done
    [ "$fetcher" != none ] || fail "neither curl nor wget nor python3 is here"
    retry 20 answers || fail "$url does not answer: $(last_words "$log")"
}

add_user() {
    # With the number that a kept home has, where it is free: gigabytes need no new owner then.
    number=$(stat -c %u "$USER_HOME" 2>/dev/null | grep -vx 0)
    for number in "$number" ''; do
        set -- -s "$shell" ${USER_HOME:+-d "$USER_HOME"} ${number:+-u "$number"} "$user"
        useradd -m "$@"
        status=$?
        [ "$status" != 9 ] || { # a group of this name is there
            useradd -m -g "$user" "$@"
            status=$?
        }
        case $status in
            0) break ;;
            1) return 1 ;; # somebody else is changing the users just now
        esac
    done
    id "$user" || adduser -D -s "$shell" ${USER_HOME:+-h "$USER_HOME"} "$user"
    # Somebody else may have made it meanwhile, so only the result counts.
    id "$user" || return 2
}

make_user() {
    shell=$(command -v bash || echo /bin/sh)
    for pause in 0.1 0.4 1 2 4 8 end; do
        add_user
        case $?$pause in
            0*) break ;;
            2* | *end) fail "the user $user cannot be made: $(last_words "$log")" ;;
        esac
        sleep "$pause"
    done
    # A home that outlived its user belongs to the old number.
    home=$(eval "echo ~$user")
    [ -n "$USER_HOME" ] || [ ! -d "$home" ] ||
        [ "$(stat -c %u "$home")" = "$(id -u "$user")" ] || chown -Rh "$user" "$home"
}

join_group() {
    usermod -aG "$1" "$user" || addgroup "$user" "$1"
}

join_groups() {
    for name in docker video render; do
        ! grep -qs "^$name:" /etc/group || retry 3 join_group "$name"
    done
}

# shellcheck disable=SC2016 # su's command is expanded by the shell that su starts
become() {
    # Replaces the subshell that it is called in. Nothing of ours is read after the variables.
    umask 022
    cd "$runner" || exit
    case $switch in
        setpriv) set -- setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --init-groups -- "$@" ;;
        runuser) set -- runuser -u "$user" -- "$@" ;;
        su) set -- su -m -s /bin/sh -c 'exec "$@"' -- "$user" sh "$@" ;;
    esac
    export "HOME=$home" "USER=$user" "LOGNAME=$user"
    variables
    exec "$@"
}

user() {
    phase user
    user=$(id -un 2>/dev/null || id -u) switch=none
    if [ "$(id -u)" = 0 ]; then
        user=$ACCOUNT
        case $user in
            '' | root | -* | *[!A-Za-z0-9_.-]*) fail "the runner cannot run as '$user'" ;;
        esac
        made=''
        id "$user" >/dev/null 2>&1 || { make_user && made=yes; }
        [ "$(id -u "$user")" != 0 ] || fail "$user is root, and the runner never runs as root"
        [ -z "$made" ] && [ "$ENDS_BY" != poweroff ] || join_groups
        for switch in setpriv runuser su; do
            ! (cd / && runner=/ home=/ become true) 2>/dev/null || break
        done
    fi
    own "$runner" || fail "$runner cannot be made"
    home=/
    (become test -w "$runner") || fail "$user may not write in $runner: can it enter the folders above?"
    home=$USER_HOME
    if [ -n "$home" ]; then own "$home" && mend "$home"; else home=$(eval "echo ~$user"); fi
    if ! (become test -d "$home" -a -w "$home"); then
        home=$ROOT/home
        own "$home" || fail "$home cannot be made"
    fi
}

own() {
    [ "$switch" = none ] || unplant "$1"
    mkdir -p "$1" && chmod 755 "$1" || return 1
    [ "$switch" = none ] || chown "$user:$(id -g "$user")" "$1"
}

mend() {
    # Files of another's come from a job's container, or with another number of the user. To look at
    # each of millions would take minutes on a cold disk, at each start: the upper folders stand for
    # what is below, since uv, pip and others make one there for whatever they add. Mended from below,
    # so that they still tell after a mending that was cut short.
    [ "$switch" = none ] || [ -z "$(find "$1/" -xdev -maxdepth 4 ! -user "$user" -print -quit)" ] ||
        find "$1/" -xdev -depth ! -user "$user" -exec chown -h "$user" {} +
}

fetch() {
    case $fetcher in
        curl) curl -fsSL --connect-timeout 20 --speed-limit 1024 --speed-time 60 -C - -o "$2" "$1" ;;
        wget) wget -q -c -T 60 -O "$2" "$1" ;;
        *) python3 -I -c 'import os,sys,shutil,urllib.request as u;p=sys.argv[2];n=os.path.exists(p)and os.path.getsize(p);r=u.urlopen(u.Request(sys.argv[1],headers={"Range":"bytes=%d-"%n}if n else{}),timeout=60);f=open(p,"ab"if r.status==206 else"wb");shutil.copyfileobj(r,f);f.close();sys.exit(bool(r.length))' "$1" "$2" ;;
    esac
}

size() {
    wc -c <"$1"
} 2>/dev/null

fetch_archive() {
    before=$(size "$archive.part")
    ! fetch "$url" "$archive.part" || return 0
    # A part that does not grow is one that the server will not go on with.
    [ "$(size "$archive.part")" != "$before" ] || rm -f "$archive.part"
    return 1
}

right() {
    [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$sha256  -" ]
}

room() {
    { read -r _ && read -r _ _ _ free _; } <<END
$(df -Pk "$1")
END
    [ "${free:-0}" -ge $((disk_mib * 1024)) ] ||
        fail "the disk of $1 has $((${free:-0} / 1024)) MiB free, and the runner needs $disk_mib"
}

download() {
    phase download
    room "$ROOT"
    archive=$ROOT/runner-$sha256.tar.gz
    # Older runners, and a part whose end the last power cut may have filled with zeros.
    find "$ROOT" -maxdepth 1 -name 'runner-*' ! -name "${archive##*/}" -exec rm -f {} +
    if ! right "$archive"; then
        rm -f "$archive"
        retry 8 fetch_archive || fail "$url cannot be fetched: $(last_words "$log")"
        right "$archive.part" || {
            rm -f "$archive.part"
            fail "$url is not the runner that was asked for: its checksum is wrong"
        }
        mv "$archive.part" "$archive"
    fi
    unpack
    room "$runner/_work"
}

unpack() {
    # All of an older runner goes but its work: its registration would be refused or, worse, used.
    find "$runner" -mindepth 1 -maxdepth 1 \( ! -name _work -o ! -type d \) -exec rm -rf {} +
    # A job's container leaves files of root's anywhere in the work, and then git cannot clean it.
    [ "$switch" = none ] || find "$runner" ! -user "$user" -exec chown -h "$user" {} +
    (become tar -xzof -) <"$archive" || fail "the archive cannot be unpacked: $(last_words "$log")"
    # Not as root, who would follow a link.
    (become sh -c 'mkdir -p _work && chmod 755 _work') || fail "$runner/_work cannot be made"
    for name in http_proxy https_proxy no_proxy; do
        eval "value=\${$name-}"
        [ -z "$value" ] || printf '%s=%s\n' "$name" "$value"
    done | (become sh -c 'umask 077 && cat >.env') || fail "$runner/.env cannot be written"
}

missing() {
    known=$(ldconfig -p 2>/dev/null)
    for library in libicuuc libssl libgssapi_krb5 libz; do
        case $known in *"$library.so"*) ;; *) printf '%s ' "$library" ;; esac
    done
}

libraries() {
    phase libraries
    absent=$(missing)
    installer=$runner/bin/installdependencies.sh
    if [ -z "$absent" ] || [ "$(id -u)" != 0 ] || [ ! -x "$installer" ]; then
        [ -z "$absent" ] || echo "not here, and not installed: $absent"
        return
    fi
    echo 'DPkg::Lock::Timeout "120";' >"$ROOT/apt.conf"
    export APT_CONFIG="$ROOT/apt.conf" DEBIAN_FRONTEND=noninteractive
    retry 8 "$installer" || fail "${absent}cannot be installed: $(last_words "$log")"
    unset APT_CONFIG DEBIAN_FRONTEND
}

setup() {
    [ -n "$SETUP_SCRIPT" ] || return
    phase setup
    printf '%s\n' "$SETUP_SCRIPT" >"$ROOT/setup.sh"
    (
        umask 022
        cd "$ROOT" || exit
        set -- "$(command -v bash || echo /bin/sh)" -e "$ROOT/setup.sh"
        variables
        exec "$@"
    ) || fail "the setup script failed with code $?: $(last_words "$log")"
}

gpus_are_well() {
    fault='' count=0 least=''
    command -v nvidia-smi >/dev/null || {
        fault="nvidia-smi is not here: the image has no NVIDIA driver"
        return 1
    }
    seen=$(timeout 60 nvidia-smi --format=csv,noheader,nounits \
        --query-gpu=index,name,driver_version,memory.used,memory.total,uuid 2>&1)
    case $seen in
        '') fault="nvidia-smi says nothing" ;;
        *'No devices were found'*) fault="the driver finds no GPU" ;;
        *'version mismatch'*) fault="the driver and its library have different versions: $seen" ;;
        *'NVIDIA-SMI has failed'*) fault="the driver is not loaded: $seen" ;;
        *'ERR!'* | *'Unknown Error'* | *'[N/A]'* | *'GPU is lost'*) fault="a GPU is broken: $seen" ;;
        *) count_gpus ;;
    esac
    [ -z "$fault" ]
}

count_gpus() {
    while IFS=, read -r index model driver used total _; do
        case ${index#GPU}${used# }${total# } in '' | *[!0-9]*) continue ;; esac
        count=$((count + 1)) found=${model# } version=${driver# }
        [ $((used * 100)) -le $((total * gpu_used)) ] ||
            fault="something uses$used of$total MiB of GPU $index already"
        [ "${least:-$total}" -lt $((total - used)) ] || least=$((total - used))
    done <<END
$seen
END
    [ "$count" -ge "$GPUS" ] || fault="$count of $GPUS GPUs are here: $seen"
}

gpu() {
    [ "$GPUS" -gt 0 ] || return
    phase gpu
    retry 10 gpus_are_well || fail "$fault"
    say gpu "$count x $found, driver $version, $((least / 1024)) GiB free"
}

configure() {
    set -- --unattended --ephemeral --disableupdate --no-default-labels --work _work \
        --url "$URL" --name "$MACHINE" --labels "$LABELS"
    [ -z "$GROUP" ] || set -- "$@" --runnergroup "$GROUP"
    (
        export ACTIONS_RUNNER_INPUT_TOKEN="$TOKEN"
        become ./config.sh "$@"
    ) >>"$ROOT/runner.log" 2>&1 && [ -e "$runner/.runner" ]
}

listen() {
    phase listen
    [ -n "$JIT_CONFIG" ] || configure || fail "config.sh failed: $(last_words "$ROOT/runner.log")"
    # Not in the background: there a shell ignores SIGINT for its children, and so would the job's.
    (
        read -r pid _ </proc/self/stat
        stamp "$pid" >"$ROOT/listener"
        [ -z "$JIT_CONFIG" ] || export ACTIONS_RUNNER_INPUT_JITCONFIG="$JIT_CONFIG"
        become ./run.sh
    ) >>"$ROOT/runner.log" 2>&1
    [ ! -e "$ROOT/failed" ] || exit 1
    ! grep -qs 'Running job:' "$ROOT/runner.log" || exit 0
    reason=$(trouble)
    [ -z "$reason" ] || fail "$reason"
    listened || fail "the runner stopped before it listened: $(last_words "$ROOT/runner.log")"
}

# --- the order of events ---------------------------------------------------------------------------

this_boot
born=$(now)
main=$(stamp $$)
phase=network
make_root
runner=$ROOT/runner log=$ROOT/boot.log
claim
# A runner that outlived its boot script, and what a job left behind.
group=none self=$$
[ -z "$(remains)" ] || end_processes
# Only now: a watcher that was waited for ends whatever has its machine's name.
export GPU_CI_MACHINE="$MACHINE"
# Only a script that leads its group may end the group: the group's number is its own, then.
group=$$
grouped | grep -qx $$ || group=none
tidy_root
# A failed exec would end the shell, and that before the timers run.
(: >>"$log") || log=/dev/null
exec >>"$log" 2>&1 </dev/null
arm
trap 'alive "$watcher" || arm' EXIT
if [ "$ENDS_BY" = poweroff ]; then second_timer & fi

network
user
download
libraries
setup
gpu
listen
