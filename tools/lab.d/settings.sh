# Where a lab keeps what; sourced by tools/lab, keeper and init.
export LC_ALL=C.UTF-8
PATH=/usr/sbin:/usr/bin:/sbin:/bin
lab=${LAB:-lab}
base=/run/pgjolt-lab
disk_base=/var/tmp/pgjolt-lab
state=$base/$lab            # settings, secrets, pids, each member's /run
disk=$disk_base/$lab        # members' disks, etcd's data, logs
lock=$base/$lab.lock
veth=pj-$lab                # the one interface that the host gains
group=pgjolt-lab/$lab       # cgroup path, the same in every hierarchy

cgroup2=$(awk '$3 == "cgroup2" && $2 ~ "^/sys/fs/cgroup" { print $2; exit }' /proc/self/mounts)
mapfile -t cgroup1 < <(awk '$3 == "cgroup" && $2 ~ "^/sys/fs/cgroup/" { print $2 }' /proc/self/mounts)
pg_bin=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/postgres' 2>/dev/null | sort -V | tail -1)
pg_bin=${pg_bin%/postgres}

die() {
	echo "tools/lab: $*" >&2
	exit 1
}

refuse() {
	echo "tools/lab: $*" >&2
	exit 3
}

phase() { # a line with the seconds since up began
	local us=$((${EPOCHREALTIME/./} - started))

	printf '%5d.%d s  %s\n' $((us / 1000000)) $((us / 100000 % 10)) "$*"
}

members() {
	local i

	for ((i = 1; i <= nodes; i++)); do echo "pg$i"; done
}

# The host's address is in the lower half of the network and only that half is routed to the lab: ordinary
# users of the host reach the members, who ask for passwords, but not etcd, which does not.
member_ip() {
	case $1 in
	etcd) echo "$subnet.130" ;;
	names) echo "$subnet.131" ;;
	*) echo "$subnet.$((10 + ${1#pg}))" ;;
	esac
}

member_host() { # by what the others reach it
	if [ -n "$names" ]; then echo "$1"; else member_ip "$1"; fi
}

start_time() { # of process $1 in clock ticks since boot: with the pid it names a process for good
	local stat

	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	set -- ${stat##*) }
	echo "${20}"
}

recorded_pid() { # pid of $1's first process if it still is that process
	local pid start

	read -r pid start 2>/dev/null <"$state/$1/pid" || return 1
	[ "$(start_time "$pid")" = "$start" ] || return 1
	echo "$pid"
}
