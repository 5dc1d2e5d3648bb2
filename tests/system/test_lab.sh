#!/bin/bash
# tools/lab: a cluster that works, power on and off, and nothing left behind however it ended.
# labels: quick tools
set -uo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
for program in patroni etcd psql losetup; do
	command -v $program >/dev/null || [ -x /usr/sbin/$program ] || { echo "not installed: $program"; exit 77; }
done
source_dir=${PGJOLT_SOURCE:-$(realpath "$(dirname "$0")/../..")}
export LAB=tl$((BASHPID % 100000))
work=$(mktemp -d)
failed=0
trap 'lab down >/dev/null 2>&1; rm -rf "$work"' EXIT

lab() { "$source_dir/tools/lab" "$@"; }
sql() { psql -X -At "$@"; }
member() { lab status --json | /usr/bin/python3 -c 'import json, sys
print({m["name"]: m for m in json.load(sys.stdin)["members"]}[sys.argv[1]][sys.argv[2]])' "$1" "$2"; }

check() { # WHAT GOT WANTED
	if [ "$2" = "$3" ]; then
		echo "ok: $1"
	else
		printf 'FAILED: %s\n  got:    %s\n  wanted: %s\n' "$1" "$2" "$3"
		failed=1
	fi
}

eventually() { # WHAT SECONDS WANTED COMMAND...
	local what=$1 end=$((SECONDS + $2)) wanted=$3 got

	shift 3
	while got=$("$@" 2>&1) && [ "$got" = "$wanted" ] && break || [ $SECONDS -lt $end ]; do sleep 0.3; done
	check "$what" "$got" "$wanted"
}

net_namespaces() { # of all that is in the lab's cgroup
	local pid

	cat /sys/fs/cgroup/{,unified/}"pgjolt-lab/$LAB"/*/cgroup.procs 2>/dev/null |
		while read -r pid; do readlink "/proc/$pid/ns/net"; done | sort -u | grep -vxF "$(readlink /proc/self/ns/net)"
}

left() { # what is on the machine of this lab; $1: network namespaces that it had
	local ns f

	ls -d "/sys/class/net/pj-$LAB" 2>/dev/null
	ls -d "/run/pgjolt-lab/$LAB"* "/var/tmp/pgjolt-lab/$LAB" 2>/dev/null
	find /run/pgjolt-lab -maxdepth 1 -lname "$LAB" 2>/dev/null
	find /sys/fs/cgroup -type d -path "*/pgjolt-lab/$LAB*" 2>/dev/null
	losetup -l -n -O BACK-FILE | grep -F "/pgjolt-lab/$LAB/"
	cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -F "pgjolt-lab/$LAB/"
	for f in $(grep -slF "pgjolt-lab/$LAB/" /proc/[0-9]*/cgroup /proc/[0-9]*/cmdline); do # but zombies are dead
		grep -qs '^State:.*zombie' "${f%/*}/status" || [ ! -e "${f%/*}" ] || echo "$f"
	done
	ip -4 -o addr show | grep -F " pj-$LAB "
	for ns in ${1:-}; do
		ls -l /proc/[0-9]*/ns/net 2>/dev/null | grep -F "$ns"
	done
	return 0
}

check_usage() {
	local out

	check "no lab: down says so" "$(lab down)" "no lab '$LAB' here"
	check "no lab: down again leaves nothing" "$(left)" ""
	lab status >/dev/null 2>&1
	check "no lab: status fails" $? 1
	lab up --nodes 0 >/dev/null 2>&1
	check "--nodes 0 is refused" $? 2
	lab up --ttl 5 >/dev/null 2>&1
	check "--ttl 5 is refused" $? 2
	lab up --bogus >/dev/null 2>&1
	check "an unknown argument is refused" $? 2
	LAB=../x lab up >/dev/null 2>&1
	check "a name that is a path is refused" $? 2
	for verb in up status psql exec logs env stop start restart down; do
		out=$(lab $verb --help) || check "$verb --help" failed shown
		[[ $out == *"usage:"* ]] || check "$verb --help" "$out" "a usage line"
	done
}

check_sync_lab() {
	local spaces pid out

	lab up >"$work/up" 2>&1
	check "up" $? 0
	cat "$work/up"
	check "up says who is the primary" "$(grep -c 'pg1 is the primary' "$work/up")" 1
	lab up >"$work/again" 2>&1
	check "a second up is refused" $? 3
	check "a second up says why" "$(grep -c 'is running' "$work/again")" 1

	eval "$(lab env)"
	sql "target_session_attrs=read-write" -q -c "CREATE TABLE t AS SELECT generate_series(1, 1000) i" \
		-c "SHOW synchronous_standby_names" >"$work/names"
	check "writes through the service" $? 0
	check "replication is synchronous" "$(grep -cE '^"?pg[23]"?$' "$work/names")" 1
	for i in 2 3; do
		eventually "pg$i has the rows" 10 1000 sql "host=$(member pg$i ip)" -c "SELECT count(*) FROM t"
	done
	check "psql without an instance is on the primary" "$(lab psql -- -At -c 'SELECT pg_is_in_recovery()')" f
	check "psql on a replica" "$(lab psql pg2 -- -At -c 'SELECT pg_is_in_recovery()')" t
	check "cluster_name is the lab's" "$(lab psql -- -At -c 'SHOW cluster_name')" "$LAB"
	check "checksums are on" "$(lab psql -- -At -c 'SHOW data_checksums')" on
	check "role pgjolt is no superuser" "$(sql -c 'SELECT rolsuper FROM pg_roles WHERE rolname = current_user')" f
	check "exec is inside" "$(lab exec pg2 -- hostname)" pg2
	check "exec hands the status on" "$(lab exec pg2 -- sh -c 'exit 7'; echo $?)" 7
	check "exec sees the member's processes alone" "$(lab exec pg3 -- readlink /proc/1/exe)" "$(readlink -f /bin/bash)"
	lab exec pg9 -- true 2>/dev/null
	check "exec in an unknown instance" $? 2
	check "no password in the logs" "$(lab logs | grep -cFf <(sed 's/.*[=:]//' "/run/pgjolt-lab/$LAB/secrets"))" 0
	check "secrets are root's alone" "$(stat -c %a "/run/pgjolt-lab/$LAB/secrets" "/run/pgjolt-lab/$LAB/pgpass" | sort -u)" 600
	check "no PostgreSQL runs as root" "$(ps -o user= -C postgres | grep -c '^root')" 0
	check "the host has gained one interface" "$(ip -o link show | grep -c "pj-$LAB")" 1

	# PGDATA is a file system of its own.
	check "PGDATA is on an ext4 of its own" "$(lab exec pg1 -- findmnt -n -o FSTYPE -T /var/lib/postgresql/data)" ext4
	check "the host does not see that mount" "$(grep -c "/var/lib/postgresql" /proc/self/mountinfo)" 0

	# What a service manager would do.
	pid=$(member pg1 pid)
	kill -KILL "$pid"
	eventually "a killed postmaster is started again" 60 "True" \
		bash -c '[ "$("$0/tools/lab" psql -- -At -c "SELECT 1")" = 1 ] && echo True' "$source_dir"
	check "with another pid" "$([ "$(member pg1 pid)" = "$pid" ] && echo same || echo other)" other
	lab stop pg3
	check "stop" "$(member pg3 state)" stopped
	lab start pg3
	eventually "start: it streams again" 60 streaming member pg3 state
	pid=$(member pg2 pid)
	lab restart pg2
	eventually "restart: it streams again" 60 streaming member pg2 state
	check "the rows are still there" "$(sql "host=$(member pg2 ip)" -c 'SELECT count(*) FROM t')" 1000

	# Frozen processes must die, too.
	for f in /sys/fs/cgroup/{,unified/}"pgjolt-lab/$LAB/pg1/cgroup.freeze"; do [ ! -e "$f" ] || echo 1 >"$f"; done
	f=/sys/fs/cgroup/freezer/pgjolt-lab/$LAB/pg2/freezer.state
	[ ! -e "$f" ] || echo FROZEN >"$f"
	spaces=$(net_namespaces)
	check "each member and the bridge have a network namespace" "$(wc -l <<<"$spaces")" 5
	unset PGSERVICE PGSERVICEFILE
	lab down >/dev/null
	check "down with frozen members" $? 0
	check "down leaves nothing" "$(left "$spaces")" ""
}

check_one_async() {
	lab up --nodes 1 --async --ttl 30 >"$work/up" 2>&1
	check "one member, asynchronous" $? 0
	check "ttl is as asked" "$(lab status --json | grep -o '"ttl": [0-9]*')" '"ttl": 30'
	check "it takes writes" "$(lab psql -- -Atq -c 'CREATE TABLE t (i int)' -c 'INSERT INTO t VALUES (1) RETURNING i')" 1
	check "no synchronous standby" "$(lab psql -- -At -c 'SHOW synchronous_standby_names')" ""
	lab down >/dev/null
	check "down" $? 0
	check "nothing is left" "$(left)" ""
}

check_names() {
	local spaces ip

	lab up --nodes 2 --async --names >"$work/up" 2>&1
	check "members that go by names" $? 0
	ip=$(member pg1 ip)
	check "no file knows them" "$(lab exec pg2 -- grep -c pg1 /etc/hosts)" 0
	check "the lab's name server does" "$(lab exec pg2 -- getent ahostsv4 pg1 | awk 'NR == 1 { print $1 }')" "$ip"
	check "and no other name" "$(lab exec pg2 -- getent hosts pg7; echo $?)" 2
	check "the replica follows a name" "$(lab psql pg2 -- -At -c 'SHOW primary_conninfo' | grep -o 'host=[^ ]*')" \
		"host=$(lab status --json | grep -q '"name": "pg1"[^}]*"role": "primary"' && echo pg1 || echo pg2)"
	check "Patroni's store has a name" "$(lab exec pg1 -- grep -c 'etcd:2379' /run/patroni/patroni.yml)" 1
	check "the host's own file is as it was" "$(cmp /etc/resolv.conf "$work/resolv.conf" && echo same)" same
	spaces=$(net_namespaces)
	lab down >/dev/null
	check "down" $? 0
	check "nothing is left" "$(left "$spaces")" ""
}

check_killed_up() { # DELAYS...
	local delay spaces up

	for delay in "$@"; do
		"$source_dir/tools/lab" up >/dev/null 2>&1 &
		up=$!
		sleep $delay
		kill -KILL $up 2>/dev/null
		{ wait $up; } 2>/dev/null
		spaces=$(net_namespaces)
		lab down >"$work/down" 2>&1
		check "down $delay s after up, which was killed" "$? $(grep -c 'still there' "$work/down")" "0 0"
		check "nothing is left" "$(left "$spaces")" ""
	done
}

check_up_after_crash() {
	local up

	"$source_dir/tools/lab" up --nodes 1 >/dev/null 2>&1 &
	up=$!
	sleep 1
	lab up >"$work/both" 2>&1
	check "an up beside another is refused" $? 3
	lab down >/dev/null
	check "down ends an up that is under way" $? 0
	{ wait $up; } 2>/dev/null
	check "and that up fails" "$([ $? != 0 ] && echo yes)" yes
	check "nothing is left" "$(left)" ""

	# As after a crash of the machine: files, but not one process.
	mkdir -p "/run/pgjolt-lab/$LAB/pg1" "/var/tmp/pgjolt-lab/$LAB"
	echo "1 1" >"/run/pgjolt-lab/$LAB/pg1/pid"
	: >"/var/tmp/pgjolt-lab/$LAB/pg1.img"
	lab up --nodes 1 >"$work/up" 2>&1
	check "up clears away a dead lab's files and starts" $? 0
	check "and the new one works" "$(lab psql -- -At -c 'SELECT 1')" 1
	lab down >/dev/null
	check "nothing is left" "$(left)" ""
}

cp /etc/resolv.conf "$work/resolv.conf"
check_usage
check_one_async
if [ -n "${PGJOLT_QUICK:-}" ]; then
	check_killed_up 0.1 0.3 1.5
	exit $failed
fi
check_sync_lab
check_names
check_killed_up 0.02 0.05 0.08 0.12 0.16 0.2 0.3 0.5 0.9 1.8 3.5 6
check_up_after_crash
exit $failed
