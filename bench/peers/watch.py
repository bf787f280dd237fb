"""When a consumer first has a new value: one watcher, the same for every contestant.

A running consumer's file: inotify on its directory, reached through /proc/PID/root, so the kernel says
when a file there was written or renamed; then the file is read. A consumer that was started anew: the
first thing its program does is to write its number, its variable and its file into a FIFO. Nothing
polls. A value counts when it is another one than the consumer had.
"""

import ctypes
import os
import selectors
import struct
import threading
import time

FILE = "run/secrets/db_password"
EVENT = struct.Struct("iIII")
IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x8, 0x80, 0x100
READ_AT_ONCE = 1 << 16

LIBC = ctypes.CDLL(None, use_errno=True)


def parse_report(line):
    """(number, variable, file) of a consumer's first words."""
    number, variable, file = line.split(" ")
    return int(number), variable, file


def events_of(data):
    """The watch numbers of the inotify events in a buffer, in order."""
    offset, found = 0, []
    while offset + EVENT.size <= len(data):
        number, _mask, _cookie, length = EVENT.unpack_from(data, offset)
        found.append(number)
        offset += EVENT.size + length
    return found


class Watch:
    """Waits for values; `expect`, then do it, then `wait`."""

    def __init__(self, fifo=None):
        self.lock = threading.Condition()
        self.last = {}
        self.kind = None
        self.pending = set()
        self.seen = {}
        self.directories = {}
        self.rest = b""
        self.inotify = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.inotify < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.inotify, selectors.EVENT_READ, self.take_events)
        if fifo is not None:
            # Both ends are ours, so no writer waits for a reader and none sees an end.
            self.fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self.selector.register(self.fifo, selectors.EVENT_READ, self.take_reports)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            for key, _ in self.selector.select():
                key.data(time.perf_counter())

    def add_file(self, number, root, file=FILE, kind="file"):
        """Watches a consumer's file below a root directory, where others may lie, too; what is there now is no news."""
        path = os.path.join(root, file)
        mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE
        watch = LIBC.inotify_add_watch(self.inotify, os.path.dirname(path).encode(), mask)
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {os.path.dirname(path)}")
        with self.lock:
            self.directories.setdefault(watch, []).append((kind, number, path))
            self.last[kind, number] = read_value(path)

    def forget_files(self):
        """Watches no file any more: its consumers were restarted or are gone."""
        with self.lock:
            for watch in self.directories:
                LIBC.inotify_rm_watch(self.inotify, watch)
            self.directories.clear()

    def expect(self, kind, numbers):
        """From now on these have to show something new: `file`, `files`, `env`, `mounted` or `start`."""
        with self.lock:
            self.kind, self.pending, self.seen = kind, set(numbers), {}

    def wait(self, seconds):
        """When each was first seen with which value; the run fails when one is not."""
        with self.lock:
            if not self.lock.wait_for(lambda: not self.pending, seconds):
                some = sorted(self.pending)[:5]
                raise TimeoutError(f"{len(self.pending)} consumers show nothing new after {seconds} s: {some}")
            seen, self.kind = self.seen, None
        return seen

    def take_events(self, now):
        with self.lock:
            for watch in dict.fromkeys(events_of(os.read(self.inotify, READ_AT_ONCE))):
                for kind, number, path in self.directories.get(watch, ()):
                    self.take_value(kind, number, read_value(path), now)

    def take_reports(self, now):
        *lines, self.rest = (self.rest + os.read(self.fifo, READ_AT_ONCE)).split(b"\n")
        with self.lock:
            for line in lines:
                number, variable, file = parse_report(line.decode())
                self.take_value("env", number, variable, now)
                self.take_value("mounted", number, file, now)
                self.take_value("start", number, now, now)

    def take_value(self, kind, number, value, now):
        if not value or value == "none" or value == self.last.get((kind, number)):
            return
        self.last[kind, number] = value
        if kind == self.kind and number in self.pending:
            self.pending.discard(number)
            self.seen[number] = (now, value)
            if not self.pending:
                self.lock.notify_all()


def read_value(path):
    """What is in the file; nothing when it is not there (any more)."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return ""
