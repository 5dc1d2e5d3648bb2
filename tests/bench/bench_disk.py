"""disk-stress beside fio and stress-ng: the same pattern, block size and workers on the same volume."""
import contextlib
import json
import os
import re
import subprocess
import time

from benchlib import Agent, Api, Table, Target, fault, median, program, scratch

MIB = 1 << 20
WORKERS = 2
SIZE_MIB = 64           # of all workers together
DISK_MIB = 400
# name: (block size, fio's words, stress-ng's options)
PATTERNS = {
    "sequential": (65536, ["--rw=write"], "wr-seq"),
    "random": (65536, ["--rw=randwrite", "--norandommap"], "wr-rnd"),
    "fsync-storm": (8192, ["--rw=write", "--fdatasync=1"], "wr-seq,fdatasync"),
    "read": (65536, ["--rw=randread", "--norandommap"], "rd-rnd"),
}
WARM_S = 0.7


def stat_of(path):
    """(bytes read, bytes written, reads, writes) of the device below."""
    number = os.stat(path).st_dev
    with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat") as f:
        words = f.read().split()
    return int(words[2]) * 512, int(words[6]) * 512, int(words[0]), int(words[4])


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for p in found:
        with contextlib.suppress(OSError), open(f"/proc/{p}/task/{p}/children") as f:
            found += [int(x) for x in f.read().split()]
    return found


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
            words = f.read().rsplit(")", 1)[1].split()
            total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def window(data, pids, seconds):
    """What the device and the processes did meanwhile, each second."""
    before, cpu, start = stat_of(data), cpu_seconds(pids()), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    after = stat_of(data)
    return {"bytes": (after[0] - before[0] + after[1] - before[1]) / took,
            "operations": (after[2] - before[2] + after[3] - before[3]) / took,
            "cpu": (cpu_seconds(pids()) - cpu) / took}


def pgjolt(api, target, data, agent, pattern, seconds):
    block = PATTERNS[pattern][0]
    with fault(api, target, "disk-stress", pattern=pattern, workers=WORKERS, size=f"{SIZE_MIB}MiB",
               block_size=f"{block}B") as now:
        def evidence():
            return now()["evidence"]
        end = time.monotonic() + 20
        while pattern == "read" and not evidence().get("prepared") and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(WARM_S)
        before, start = evidence()["bytes"], time.monotonic()
        seen = window(data, lambda: tree(agent.pid)[1:], seconds)
        seen["own"] = (evidence()["bytes"] - before) / (time.monotonic() - start)
    return seen


def run_tool(words, data, seconds):
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=data)
    try:
        time.sleep(WARM_S)
        seen = window(data, lambda: tree(process.pid), seconds)
        text, errors = process.communicate(timeout=60)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"{words[0]}: {errors or text}")
    return seen, text


def fio(folder, data, pattern, seconds):
    block, words, _ = PATTERNS[pattern]
    common = [program("fio"), "--name=bench", f"--filename={folder}/fio", f"--size={SIZE_MIB // WORKERS}M",
              f"--offset_increment={SIZE_MIB // WORKERS}M", f"--numjobs={WORKERS}", f"--bs={block}", "--direct=1",
              "--ioengine=psync", "--group_reporting", "--output-format=json"]
    if pattern == "read":       # the file first: its making is not to be in the window
        subprocess.run([*common, "--rw=write"], check=True, stdout=subprocess.DEVNULL, cwd=data)
    seen, text = run_tool([*common, *words, "--time_based", f"--runtime={WARM_S + seconds + 0.5:.1f}"], data, seconds)
    job = json.loads(text[text.index("{"):])["jobs"][0]
    seen["own"] = job["read" if pattern == "read" else "write"]["bw_bytes"]
    return seen


def stress_ng(folder, data, pattern, seconds):
    block, _, options = PATTERNS[pattern]
    length = round(WARM_S + seconds + 1)
    report = f"{folder}/stress-ng.yaml"
    seen, _ = run_tool([program("stress-ng"), "--hdd", str(WORKERS), "--hdd-bytes", f"{SIZE_MIB // WORKERS}m",
                        "--hdd-write-size", str(block), "--hdd-opts", f"direct,{options}", "--temp-path", folder,
                        "--timeout", f"{length}s", "--metrics", "--yaml", report], data, seconds)
    with open(report) as f:
        found = re.search(r"bogo-ops-per-second-real-time: ([\d.]+)", f.read())
    seen["own"] = float(found.group(1)) * block if found else None
    return seen


def rate(bytes_per_s):
    return "not told" if bytes_per_s is None else f"{bytes_per_s / MIB:.0f} MiB/s"


def disk_stress(short):
    rounds, seconds = (1, 1) if short else (5, 4)
    table = Table(f"disk-stress beside fio and stress-ng: {WORKERS} workers, O_DIRECT, ext4 on a loop device",
                  ["pattern", "by", "its own count", "the device's", "own / device", "device's operations",
                   "processors taken", "processor ms a GiB", "device's, of disk-stress"])
    with scratch("benchk") as folder, Agent(folder) as agent, \
            Target(folder, "benchk", disk=DISK_MIB) as target, Api(agent.socket) as api:
        data = os.path.join(folder, "data")
        work = os.path.join(data, "bench")
        os.mkdir(work)
        tools = {"pgjolt disk-stress": lambda *a: pgjolt(api, target, data, agent, *a)}
        if program("fio"):
            tools["fio"] = lambda *a: fio(work, data, *a)
        if program("stress-ng"):
            tools["stress-ng"] = lambda *a: stress_ng(work, data, *a)
        names = list(tools)
        for pattern in PATTERNS:
            found = {}
            for n in range(rounds):
                for i in range(len(names)):
                    name = names[(i + n) % len(names)]
                    found.setdefault(name, []).append(tools[name](pattern, seconds))
                    subprocess.run(["sync", "-f", data], check=True)
            base = median([x["bytes"] for x in found[names[0]]])
            for name in names:
                own = [x["own"] for x in found[name] if x["own"] is not None]
                m = {k: median([x[k] for x in found[name]]) for k in ("bytes", "operations", "cpu")}
                own = median(own) if own else None
                table.row(f"{pattern}, {PATTERNS[pattern][0] // 1024} KiB", name, rate(own), rate(m["bytes"]),
                          f"{own / m['bytes']:.2f}" if own and m["bytes"] else "", f"{m['operations']:.0f}/s",
                          f"{m['cpu']:.2f}",
                          f"{m['cpu'] * 1000 / (m['bytes'] / (1 << 30)):.0f}" if m["bytes"] else "",
                          f"{m['bytes'] / base:.2f}" if base else "")
        os.rmdir(work) if not os.listdir(work) else subprocess.run(["rm", "-r", work], check=True)
    missing = [x for x in ("fio", "stress-ng") if not program(x)]
    if missing:
        table.note(f"Not measured, since not installed: {', '.join(missing)} (tools/deps bench).")
    table.note(f"Median of {rounds} rounds in rotating order, {seconds} s each after {WARM_S} s. The device's: "
               "/sys/dev/block/*/stat, reads and writes, the file system's own journal included. Processors: of "
               "the tool's processes alone, by /proc. stress-ng's hdd stressor writes its file anew and removes it "
               "again and again, also to read it; its own count is its bogo operations of the block's size. Of the fsync-storm "
               "the device also sees the journal: the file is new to disk-stress and grows, fio lays it out before.")
    return [table]
