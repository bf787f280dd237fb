"""A Docker daemon of the run's own, and its consumers.

The daemon has its own data root, sockets, containerd and cgroup parent, and lives in the run's
namespaces: the machine's Docker knows nothing of it. Questions and starts go over its API, so that no
client's CPU is in the figures unless the client is what a contestant uses.
"""

import concurrent.futures
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.parse

from watch import FILE

IMAGE = "keywheel-peers"
API = "/v1.41"
APPLETS = ("sh", "cat", "mv", "sleep")
READY_SECONDS = 30
START_SECONDS = 120
WORKERS = 4
APP = """#!/bin/sh
trap 'exit 0' TERM
file=none
if [ -r /run/secrets/db_password ]; then read -r file </run/secrets/db_password; fi
echo "$CONSUMER ${API_TOKEN:-none} ${file:-none}" >/report
while :; do sleep 3600 & wait $!; done
"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, seconds=START_SECONDS):
        super().__init__("localhost", timeout=seconds)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Consumer:
    """One container of a pool."""

    def __init__(self, number, name):
        self.number, self.name, self.id, self.pid = number, name, None, None


class Engine:
    """The daemon."""

    def __init__(self, work, runtime, injector_socket, cgroup):
        self.root = os.path.join(work, "docker")
        self.socket = os.path.join(self.root, "docker.sock")
        os.makedirs(self.root)
        self.configure(runtime, injector_socket, cgroup)
        os.environ["DOCKER_HOST"] = f"unix://{self.socket}"
        flags = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--log-level=warn"]
        for flag, name in (
            ("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid"), ("config-file", "daemon.json"),
        ):
            flags.append(f"--{flag}={os.path.join(self.root, name)}")
        log = open(os.path.join(work, "dockerd.log"), "wb")
        self.process = subprocess.Popen(
            ["dockerd", f"--host={os.environ['DOCKER_HOST']}", *flags],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        self.wait_ready()

    def configure(self, runtime, injector_socket, cgroup):
        runtimes = {"keywheel": {"path": runtime, "runtimeArgs": ["--keywheel-socket", injector_socket]}}
        settings = {
            "runtimes": runtimes,
            "cgroup-parent": cgroup,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
        }
        with open(os.path.join(self.root, "daemon.json"), "w", encoding="utf-8") as file:
            json.dump(settings, file)

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                return self.ask("GET", "/info")
            except (OSError, http.client.HTTPException) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the run's dockerd does not answer; read dockerd.log") from error
                time.sleep(0.05)

    def ask(self, method, path, body=None, raw=None):
        """One question to the API; its answer."""
        connection = UnixConnection(self.socket)
        data = raw if raw is not None else (json.dumps(body) if body is not None else None)
        kind = "application/x-tar" if raw is not None else "application/json"
        connection.request(method, API + path, data, {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"Docker answered {method} {path}: {answer.status} {text.strip()}")
        # What is sent raw is answered by a stream of records, which nobody reads.
        return json.loads(text) if text and raw is None else None

    def import_image(self):
        """The image of all consumers, from the static busybox; its digest."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for folder in ("bin", "run", "run/secrets", "tmp", "proc", "dev", "sys", "etc"):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            archive.add(shutil.which("busybox"), "bin/busybox")
            for applet in APPLETS:
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(entry)
            entry = tarfile.TarInfo("bin/app")
            entry.mode, entry.size = 0o755, len(APP)
            archive.addfile(entry, io.BytesIO(APP.encode()))
        changes = urllib.parse.quote('CMD ["/bin/app"]')
        self.ask("POST", f"/images/create?fromSrc=-&repo={IMAGE}&tag=latest&changes={changes}", raw=data.getvalue())
        return self.ask("GET", f"/images/{IMAGE}:latest/json")["Id"]

    def start(self, consumer, config):
        """Creates and starts a consumer's container."""
        made = self.ask("POST", f"/containers/create?name={consumer.name}", config)
        consumer.id = made["Id"]
        self.ask("POST", f"/containers/{consumer.id}/start")
        self.learn_pid(consumer)

    def learn_pid(self, consumer):
        """The process number of its program now."""
        consumer.pid = self.ask("GET", f"/containers/{consumer.id}/json")["State"]["Pid"]

    def remove_all(self):
        """Every container goes."""
        left = self.ask("GET", "/containers/json?all=1")
        in_parallel(lambda one: self.ask("DELETE", f"/containers/{one['Id']}?force=1"), left)

    def stop(self):
        """Ends the daemon, its containers first."""
        try:
            self.remove_all()
        finally:
            self.process.terminate()
            self.process.wait(READY_SECONDS)


def in_parallel(work, items, workers=WORKERS):
    """Does it for all, a few at a time; the first failure is raised."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


class Pool:
    """Consumers of one kind, as many as a measurement needs."""

    def __init__(self, engine, watch, name, describe, first=0):
        self.engine, self.watch, self.name, self.describe = engine, watch, name, describe
        self.first, self.consumers = first, []

    def grow(self, count):
        """Starts consumers until there are so many; each has begun to run when this returns."""
        numbers = range(self.first + len(self.consumers), self.first + count)
        added = [Consumer(number, f"{self.name}-{number}") for number in numbers]
        self.watch.expect("start", numbers)
        in_parallel(lambda one: self.engine.start(one, self.describe(one.number)), added)
        self.watch.wait(START_SECONDS)
        self.consumers += added

    def numbers(self):
        """The numbers by which they report."""
        return [consumer.number for consumer in self.consumers]

    def watch_files(self, file=FILE):
        """Their files are watched from now on, those of nobody else."""
        self.watch.forget_files()
        for consumer in self.consumers:
            self.engine.learn_pid(consumer)
            self.watch.add_file(consumer.number, f"/proc/{consumer.pid}/root", file)


def container(number, fifo, *, binds=(), env=(), labels=None, runtime=None, command=None):
    """What Docker is told of a consumer."""
    host = {"NetworkMode": "host", "Binds": [f"{fifo}:/report", *binds], "LogConfig": {"Type": "none"}}
    if runtime:
        host["Runtime"] = runtime
    config = {"Image": IMAGE, "Env": [f"CONSUMER={number}", *env], "Labels": labels or {}, "HostConfig": host}
    if command:
        config["Cmd"] = command
    return config
