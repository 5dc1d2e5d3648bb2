"""One virtual machine over this machine's own root, bounded in time and memory. Nothing of it is on disk:
sockets are unlinked before it starts, its disk and its command are in memory, and its processes die with
the one that started them."""
import collections
import ctypes
import fcntl
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

from kernels import HERE, Unavailable, archive

PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x4000 | 0x40000
SYS_mount_setattr, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
KVM_CREATE_VM = 0xAE01
DISK_BYTES_MAX = 8 << 30
CONSOLE_LINES = 120
STDERR_TAIL = 20
TIMED_OUT, BROKEN = 124, 125
SHARES = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
EMULATOR = "qemu-system-x86_64"
BASE_CMDLINE = ("console=ttyS0 quiet loglevel=4 oops=panic panic=-1 mitigations=off tsc=reliable "
                "clocksource=tsc no_timer_check")


def kvm_usable():
    """Is there hardware that runs the guest? A /dev/kvm without it takes none but kernels made for it."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        flags = next((line.split() for line in f if line.startswith("flags")), [])
    if not {"vmx", "svm"} & set(flags):
        return False
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
        return True
    except OSError:
        return False
    finally:
        os.close(kvm)


def die_with(parent):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:      # it ended before that
        os.kill(os.getpid(), signal.SIGKILL)


def read_only_mounts():
    """Whatever the guest's root does, this process's view of the host cannot be written."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    if (libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) or
            libc.syscall(SYS_mount_setattr, AT_FDCWD, b"/", AT_RECURSIVE, attributes, 32)):
        raise OSError(ctypes.get_errno(), "cannot make the mounts read-only")


def memory_file(name, data=b""):
    fd = os.memfd_create(name)
    with open(os.dup(fd), "wb") as f:
        f.write(data)
    return fd


class Machine:
    def __init__(self, kernel, name, options):
        self.kernel = kernel
        self.name = name
        self.options = options
        self.processes = []
        self.fds = []
        self.console = collections.deque(maxlen=CONSOLE_LINES)
        self.partial = b""
        self.status = b""
        self.shares = []
        self.emulator = None

    def keep(self, fd):
        self.fds.append(fd)
        return fd

    def start(self, command, fds, prepare=None, **streams):
        parent = os.getpid()

        def before():
            die_with(parent)
            if prepare:
                prepare()
        process = subprocess.Popen(command, pass_fds=fds, preexec_fn=before, start_new_session=True,
                                   stdin=subprocess.DEVNULL, **streams)
        self.processes.append(process)
        return process

    def share(self, source, writable):
        """A file server for this folder; the descriptor that reaches it, and nobody else's way to it."""
        program = next((p for p in SHARES if os.path.exists(p)), None)
        if not program:
            raise Unavailable("there is no virtiofsd (tools/deps vm)")
        with (tempfile.TemporaryDirectory(prefix="pgjolt-vm-") as folder,
              socket.socket(socket.AF_UNIX) as server):
            server.bind(f"{folder}/socket")
            server.listen(1)
            client = socket.socket(socket.AF_UNIX)
            client.connect(f"{folder}/socket")
            log = memory_file("virtiofsd-log")
            self.shares.append(self.keep(log))
            self.start([program, f"--fd={server.fileno()}", "-o", f"source={source}", "-o", "cache=always",
                        "-o", "sandbox=chroot", "-o", "log_level=warn"], [server.fileno()],
                       None if writable else read_only_mounts, stdout=log, stderr=log)
        return self.keep(client.detach())

    def disk(self):
        """An ext4 file system in memory, filled from a folder if one is named."""
        fd = self.keep(os.memfd_create("pgjolt-vm-disk"))
        os.ftruncate(fd, self.options.disk)
        command = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
        if self.options.disk_content:
            command += ["-d", self.options.disk_content]
        done = subprocess.run([*command, f"/proc/self/fd/{fd}"], pass_fds=[fd], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"mkfs.ext4: {done.stderr.strip()}")
        return fd

    def initrd(self, command):
        """The kernel's own, and behind it what is this run's."""
        settings = {"name": self.name, "release": self.kernel.release, "modules": self.kernel.modules,
                    "folder": os.getcwd(), "out": self.options.out or "",
                    "disk": "1" if self.options.disk else ""}
        text = "".join(f"{k}={shlex.quote(v)}\n" for k, v in settings.items())
        with open(os.path.join(HERE, "guest"), "rb") as f:
            guest = f.read()
        with open(self.kernel.initrd(), "rb") as f:
            base = f.read()
        own = archive({"vm/guest": (0o755, guest), "vm/settings": (0o644, text.encode()),
                       "vm/command": (0o644, b"".join(os.fsencode(w) + b"\0" for w in command))})
        return self.keep(memory_file("pgjolt-vm-initrd", base + bytes(-len(base) % 512) + own))

    def command_line(self, command, ends):
        """The emulator's; fds are what it inherits."""
        memory = f"{self.options.memory}M"
        kvm = kvm_usable()
        fds = list(ends.values())
        words = [EMULATOR, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                 "-machine", "q35,hpet=off", "-smp", "2", "-m", memory,
                 "-accel", "kvm" if kvm else "tcg,thread=single", "-cpu", "host" if kvm else "max",
                 "-object", f"memory-backend-memfd,id=memory,size={memory},share=on",
                 "-numa", "node,memdev=memory", "-kernel", self.kernel.image(),
                 "-append", f"{BASE_CMDLINE} {self.options.cmdline}".strip(),
                 "-serial", f"file:/dev/fd/{ends['console']}", "-device", "virtio-serial-pci"]
        for name in ("stdout", "stderr", "status"):
            words += ["-chardev", f"file,id={name},path=/dev/fd/{ends[name]},append=on",
                      "-device", f"virtserialport,chardev={name},name={name}"]
        shares = {"root": ("/", False)}
        if self.options.out:
            shares["out"] = (self.options.out, True)
        for tag, (source, writable) in shares.items():
            fd = self.share(source, writable)
            fds.append(fd)
            words += ["-chardev", f"socket,id=share-{tag},fd={fd}",
                      "-device", f"vhost-user-fs-pci,chardev=share-{tag},tag={tag},queue-size=1024"]
        if self.options.disk:
            fd = self.disk()
            fds.append(fd)
            words += ["-blockdev", f"driver=file,node-name=disk,filename=/proc/self/fd/{fd},locking=off",
                      "-device", "virtio-blk-pci,drive=disk"]
        fd = self.initrd(command)
        fds.append(fd)
        return [*words, "-initrd", f"/proc/self/fd/{fd}"], fds

    def run(self, command):
        """The command's exit status, or what the machine itself came to."""
        ends, readers = {}, {}
        try:
            for name in ("stdout", "stderr", "status", "console"):
                readers[name], ends[name] = os.pipe()
                self.keep(readers[name])
            words, fds = self.command_line(command, ends)
            complaints = self.keep(memory_file("emulator-log"))
            try:
                self.emulator = self.start(words, fds, stdout=complaints, stderr=complaints)
            except FileNotFoundError as e:
                raise Unavailable(f"there is no {EMULATOR} (tools/deps vm)") from e
            for fd in ends.values():
                os.close(fd)
            ends = {}
            in_time = self.follow(readers)
            return self.judge(in_time, complaints)
        finally:
            self.end()
            for fd in [*self.fds, *ends.values()]:
                os.close(fd)

    def follow(self, readers):
        """Passes on what comes until the emulator has ended; False when the time is over first."""
        end = time.monotonic() + self.options.timeout
        with selectors.DefaultSelector() as selector:
            for name, fd in readers.items():
                selector.register(fd, selectors.EVENT_READ, name)
            while selector.get_map():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                for key, _ in selector.select(left):
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fd)
                    self.take(key.data, data)
        self.emulator.wait(max(1, end - time.monotonic()))
        return True

    def take(self, name, data):
        if name == "status":
            self.status += data
        elif name == "console":
            *lines, self.partial = (self.partial + data).split(b"\n")
            self.console.extend(lines)
            if self.options.console and data:
                sys.stderr.buffer.write(data)
                sys.stderr.flush()
        else:
            stream = sys.stdout if name == "stdout" else sys.stderr
            stream.buffer.write(data)
            stream.flush()

    def judge(self, in_time, complaints):
        words = self.status.split()
        if in_time and words and words[0].isdigit():
            return int(words[0])
        if in_time:
            print(f"tools/vm: {self.name}: the machine ended without a result of the command", file=sys.stderr)
        else:
            print(f"tools/vm: {self.name}: not done within {self.options.timeout} s", file=sys.stderr)
        lines = [line.decode(errors="replace").rstrip()
                 for line in [*self.console, self.partial] if line.strip()]
        print("tools/vm: the console's last lines:", file=sys.stderr)
        for line in lines or ["(none)"]:
            print(f"  {line}", file=sys.stderr)
        for fd, who in [(complaints, EMULATOR), *((s, "virtiofsd") for s in self.shares)]:
            size = os.fstat(fd).st_size
            text = os.pread(fd, min(size, 65536), 0).decode(errors="replace")
            for line in text.splitlines()[-STDERR_TAIL:]:
                print(f"  {who}: {line}", file=sys.stderr)
        return BROKEN if in_time else TIMED_OUT

    def end(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()


class Slot:
    """One of so many machines at a time on this host: a name that the kernel takes back by itself."""

    def __init__(self, count, wait_s):
        self.socket = None
        end = time.monotonic() + wait_s
        told = False
        while not self.take(count):
            if time.monotonic() > end:
                raise Unavailable(f"{count} virtual machines are running (PGJOLT_VMS), and none ended "
                                  f"within {wait_s} s")
            if not told:
                print("tools/vm: waiting for another virtual machine to end", file=sys.stderr)
                told = True
            time.sleep(0.2)

    def take(self, count):
        for number in range(count):
            s = socket.socket(socket.AF_UNIX)
            try:
                s.bind(f"\0pgjolt-vm-{number}")
                self.socket = s
                return True
            except OSError:
                s.close()
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
