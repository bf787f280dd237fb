"""What processes cost: CPU seconds and memory, by the role a process plays in the run.

The run lives in a PID namespace of its own, so every process that /proc shows belongs to it. Roles:
`own` (a contestant's processes), `engine` (dockerd, containerd, shims, runtimes, and what they have
reaped), `store` (the OpenBao server), `client` (commands the run has started and waited for). The
consumers' programs and this script are in no role.
"""

import contextlib
import os
import threading

TICKS = os.sysconf("SC_CLK_TCK")
ROLES = ("own", "engine", "store", "client")
# The kernel cuts names at 15 characters.
ENGINE = {"dockerd", "containerd", "containerd-shim", "runc", "docker-init", "keywheel-runtim"}
OWN = {"keywheel", "keywheel-nsjoin", "bao"}
INIT = 1


def parse_stat(line):
    """Name, own ticks and those of reaped children, of a line of /proc/PID/stat."""
    name = line[line.index("(") + 1 : line.rindex(")")]
    fields = line[line.rindex(")") + 2 :].split()
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return name, user + system, children_user + children_system


def parse_memory(text):
    """(PSS, RSS) in bytes, of /proc/PID/smaps_rollup."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("Pss:", "Rss:"):
            found[words[0]] = int(words[1]) * 1024
    return found.get("Pss:", 0), found.get("Rss:", 0)


def read(path):
    """A file of /proc; nothing when its process is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def pids():
    """All processes of the namespace."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


class Ledger:
    """Who is who, and what they have cost so far."""

    def __init__(self):
        self.script = os.getpid()
        self.stores = set()
        # Processes of a contestant that is measured beside the others, in the background.
        self.background = set()
        self.housekeeping = 0
        self.lock = threading.Lock()

    def role(self, pid, name):
        """The role of a process; none for consumers, the script and the background."""
        if pid in self.background:
            return None
        if pid in self.stores:
            return "store"
        if name in ENGINE:
            return "engine"
        return "own" if name in OWN else None

    def cpu(self):
        """CPU seconds by role since each process began."""
        ticks = dict.fromkeys(ROLES, 0)
        for pid in pids():
            line = read(f"/proc/{pid}/stat")
            if not line:
                continue
            name, own, children = parse_stat(line)
            if pid == INIT:
                # Shims have no other parent; whoever starts them leaves them to the namespace's init.
                ticks["engine"] += children
            elif pid == self.script:
                ticks["client"] += children - self.housekeeping
            else:
                role = self.role(pid, name)
                if role:
                    ticks[role] += own + children
        return {role: count / TICKS for role, count in ticks.items()}

    def memory(self, chosen=None):
        """(PSS, RSS) in bytes by role; or of chosen processes, as the role `own`."""
        sums = {role: [0, 0] for role in ROLES}
        for pid in chosen if chosen is not None else pids():
            line = read(f"/proc/{pid}/stat")
            role = "own" if chosen is not None else line and self.role(pid, parse_stat(line)[0])
            if not role:
                continue
            pss, rss = parse_memory(read(f"/proc/{pid}/smaps_rollup"))
            sums[role][0] += pss
            sums[role][1] += rss
        return {role: tuple(pair) for role, pair in sums.items()}

    def cpu_of(self, chosen):
        """CPU seconds of chosen processes."""
        lines = [read(f"/proc/{pid}/stat") for pid in chosen]
        return sum(sum(parse_stat(line)[1:]) for line in lines if line) / TICKS

    @contextlib.contextmanager
    def uncounted(self):
        """Commands in here are the run's own questions, not a contestant's clients."""
        before = parse_stat(read(f"/proc/{self.script}/stat"))[2]
        try:
            yield
        finally:
            with self.lock:
                self.housekeeping += parse_stat(read(f"/proc/{self.script}/stat"))[2] - before


def difference(after, before):
    """What was spent between two readings."""
    return {role: after[role] - before[role] for role in after}
