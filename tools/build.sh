# Building from a tool that runs as root; sourced by quickstart and test. Needs $top.

# Root's build folder in somebody's clone would be in that person's way, so the clone's owner builds.
as_owner() {
	local owner

	owner=$(stat -c %U "$top")
	if [ "$(id -u)" != 0 ] || [ "$owner" = root ] || ! id "$owner" >/dev/null 2>&1; then
		"$@"
	else
		runuser -u "$owner" -- "$@"
	fi
}

give_to_owner() {
	[ ! -e "$1" ] || chown -R --reference="$top" "$1"
}

build_preset() { # sets build; $1 is a name from CMakePresets.json
	local log began=$SECONDS

	build=$top/build/$1
	as_owner mkdir -p "$top/build"
	log=$(mktemp)
	if as_owner cmake --preset "$1" -S "$top" >"$log" 2>&1 && as_owner cmake --build "$build" >>"$log" 2>&1; then
		echo "built ${build#"$top"/} in $((SECONDS - began)) s"
		rm -f "$log"
	else
		cat "$log" >&2
		rm -f "$log"
		echo "the build of preset $1 failed" >&2
		return 1
	fi
}
