"""The contestants, each run as its own documentation says."""

import os
import subprocess
import time

import keywheel as kw
import openbao as ob
from engine import IMAGE, Pool, container, in_parallel

POLL = 1.0
FILE = "file: { name: db_password, mode: \"0400\" }"
SETTLE = "{ restart: { settle: 1s } }"
CORES = os.cpu_count() or 1
RENDER_SECONDS = 120
# The longest that a command of Docker's client takes: a service's update of 100 tasks, one by one.
CLIENT_SECONDS = 1200
STOP_SECONDS = 30
REPLICAS_FIRST = 1000
WRITE = "umask 077; cat >/run/secrets/.new && mv /run/secrets/.new /run/secrets/db_password"


def docker(*words, text=None):
    """Docker's own client, as a person uses it."""
    done = subprocess.run(
        ["docker", *words], input=text, capture_output=True, text=True, check=False, timeout=CLIENT_SECONDS)
    if done.returncode:
        raise RuntimeError(f"docker {words[0]}: exit code {done.returncode}: {done.stderr.strip()}")


class Plain:
    """Containers under plain runc, with a directory of the host as /run/secrets."""

    def __init__(self, contest, files, fifo):
        self.contest, self.files = contest, files
        self.pool = Pool(contest.engine, contest.watch, "plain", lambda number: self.describe(number, fifo))

    def describe(self, number, fifo):
        os.makedirs(self.directory(number), exist_ok=True)
        return container(number, fifo, binds=[f"{self.directory(number)}:/run/secrets"])

    def directory(self, number):
        return os.path.join(self.files, str(number))

    def file(self, number):
        return os.path.join(self.directory(number), "db_password")

    def wait_rendered(self, value):
        """Waits until every consumer has this value."""
        deadline = time.monotonic() + RENDER_SECONDS
        missing = self.pool.numbers()
        while missing:
            missing = [number for number in missing if not has(self.file(number), value)]
            if time.monotonic() > deadline:
                raise TimeoutError(f"agents have not rendered {len(missing)} files after {RENDER_SECONDS} s")
            time.sleep(0.1)

    def run(self, counts):
        """`docker exec`, the agents and `docker restart`, at each number of containers."""
        for count in counts:
            self.pool.grow(count)
            self.pool.watch_files()
            self.exec()
            self.sidecars()
            self.agent_of_the_host()
            # Last, because the files' watches end with it.
            self.restart()
        self.contest.engine.remove_all()

    def exec(self):
        def change():
            value = self.contest.value()
            write = lambda one: docker("exec", "-i", one.name, "sh", "-c", WRITE, text=value)
            in_parallel(write, self.pool.consumers, CORES)

        self.contest.measure("exec", "file", self.pool, change)

    def put(self, name):
        value = self.contest.value()
        self.contest.bao.put(name, value)
        return value

    def sidecars(self):
        bao, numbers = self.contest.bao, self.pool.numbers()
        one = lambda number: bao.agent_head("1s") + ob.template("agent", self.file(number))
        self.agents("agent", {f"agent-{number}": one(number) for number in numbers})

    def agent_of_the_host(self):
        files = "".join(ob.template("agent_host", self.file(number)) for number in self.pool.numbers())
        self.agents("agent_host", {"agent-host": self.contest.bao.agent_head("1s") + files})

    def agents(self, key, settings):
        """Agents with these settings, which render the secret of this name."""
        if not self.contest.profile.rotations(key, len(self.pool.consumers)):
            return
        value = self.put(key)
        running = [self.contest.bao.agent(name, text) for name, text in settings.items()]
        self.wait_rendered(value)
        self.contest.measure(key, "file", self.pool, lambda: self.put(key), poll=POLL, store=key)
        end(running)

    def restart(self):
        names = [consumer.name for consumer in self.pool.consumers]
        self.contest.measure("restart", "start", self.pool, lambda: docker("restart", *names))


def has(path, value):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() == value
    except FileNotFoundError:
        return False


def end(processes):
    """Ends processes, asked first."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(STOP_SECONDS)
    processes.clear()


def supervised(contest, work, fifo, counts):
    """OpenBao agent as the container's first program, which runs the consumer with a variable."""
    bao = contest.bao
    directory = os.path.join(work, "supervisor")
    os.makedirs(directory)
    for name in ("role-id", "secret-id"):
        with open(os.path.join(bao.work, name), encoding="utf-8") as file:
            ob.write(os.path.join(directory, name), file.read())
    ob.write(os.path.join(directory, "agent.hcl"), bao.agent_head("1s", "/agent") + ob.supervisor("supervised"))
    bao.put("supervised", contest.value())
    binds = [f"{bao.program}:/bin/bao:ro", f"{directory}:/agent:ro"]
    command = ["/bin/bao", "agent", "-config=/agent/agent.hcl", "-log-level=warn"]
    describe = lambda number: container(number, fifo, binds=binds, command=command)
    pool = Pool(contest.engine, contest.watch, "supervised", describe)
    for count in counts:
        if contest.profile.rotations("supervisor", count):
            pool.grow(count)
            change = lambda: bao.put("supervised", contest.value())
            contest.measure("supervisor", "env", pool, change, poll=POLL, store="supervised")
    contest.engine.remove_all()


class Ours:
    """Keywheel in one process, with a file and a variable in every container."""

    def __init__(self, contest, programs, work, fifo, image, name):
        self.contest, self.fifo, self.image = contest, fifo, image
        self.keywheel = kw.Keywheel(programs, work, name, contest.ledger, contest.bao.work)
        self.pool = None

    def bind(self, name, app, target, reload):
        of = f"peers/{name}"
        return kw.binding(f"peers-{name}", of, self.keywheel.host, self.image, app, target, reload)

    def make_pool(self, name, variable, app="peers", own_service=True, first=0):
        def describe(number):
            labels = {"app": app}
            if own_service:
                labels["com.docker.compose.service"] = f"app-{number}"
            env = [f"API_TOKEN={{keywheel:peers/{variable}}}"]
            return container(number, self.fifo, env=env, labels=labels, runtime="keywheel")

        return Pool(self.contest.engine, self.contest.watch, name, describe, first)

    def wait_first(self, *names):
        """Waits until these have a first version."""
        deadline = time.monotonic() + RENDER_SECONDS
        while any(not self.keywheel.json("get", "secret", name).get("current") for name in names):
            if time.monotonic() > deadline:
                raise TimeoutError(f"one of {names} has no first version; read {self.keywheel.log.name}")
            time.sleep(0.1)

    def rotate(self, key, kind, name, pool=None, store=None):
        """Rotations by command."""
        change = lambda: self.keywheel.rotate(f"peers/{name}")
        self.contest.measure(key, kind, pool or self.pool, change, store=store)

    def written_elsewhere(self, key, kind, name):
        """Changes that somebody else makes at the store."""
        bao, secret = self.contest.bao, f"peers/{name}"
        change = lambda: bao.put(name, self.contest.value())
        settle = lambda: self.keywheel.wait_closed(secret)
        self.contest.measure(key, kind, self.pool, change, poll=POLL, settle=settle, store=name)

    def stop(self):
        self.contest.engine.remove_all()
        self.keywheel.stop()


def keywheel_alone(contest, programs, work, fifo, image, counts):
    """Keywheel with its own store."""
    ours = Ours(contest, programs, work, fifo, image, "alone")
    local = ["store: local", kw.GENERATOR]
    ours.keywheel.apply(
        *(kw.secret(f"peers/{name}", *local) for name in ("file", "env", "replicas")),
        ours.bind("file", "peers", FILE, "none"),
        ours.bind("env", "peers", "env: { name: API_TOKEN }", SETTLE),
        ours.bind("replicas", "replicas", "env: { name: API_TOKEN }", SETTLE),
    )
    ours.wait_first("peers/file", "peers/env", "peers/replicas")
    replicas_of_one_service(ours)
    ours.pool = ours.make_pool("ours", "env")
    for count in counts:
        ours.pool.grow(count)
        ours.pool.watch_files()
        ours.rotate("keywheel_file", "file", "file")
        ours.rotate("keywheel_env", "env", "env")
    ours.stop()


def replicas_of_one_service(ours):
    """Containers that Keywheel restarts one at a time."""
    replicas = ours.make_pool("replica", "replicas", "replicas", False, REPLICAS_FIRST)
    for count in ours.contest.profile.counts_of("keywheel_replicas"):
        replicas.grow(count)
        ours.rotate("keywheel_replicas", "env", "replicas", replicas)
    ours.contest.engine.remove_all()


def keywheel_on_openbao(contest, programs, work, fifo, image, counts):
    """Keywheel with OpenBao as its store: values that it makes, and values that others write there."""
    bao = contest.bao
    bao.put("written", contest.value())
    bao.put("written-env", contest.value())
    ours = Ours(contest, programs, work, fifo, image, "openbao")
    in_store = lambda name: ["store: openbao", f"source: {{ path: peers/{name}, field: value }}"]
    ours.keywheel.apply(
        kw.store("openbao", bao, "1s"),
        kw.secret("peers/made", *in_store("made"), kw.GENERATOR),
        kw.secret("peers/written", *in_store("written")),
        kw.secret("peers/written-env", *in_store("written-env")),
        ours.bind("made", "peers", FILE.replace("mode", "directory: /run/made, mode"), "none"),
        ours.bind("written", "peers", FILE, "none"),
        ours.bind("written-env", "peers", "env: { name: API_TOKEN }", SETTLE),
    )
    ours.wait_first("peers/made", "peers/written", "peers/written-env")
    ours.pool = ours.make_pool("outside", "written-env")
    for count in counts:
        ours.pool.grow(count)
        ours.pool.watch_files("run/made/db_password")
        ours.rotate("keywheel_bao_file", "file", "made", store="made")
        ours.pool.watch_files()
        ours.written_elsewhere("keywheel_poll_file", "file", "written")
        ours.written_elsewhere("keywheel_poll_env", "env", "written-env")
    ours.stop()


class Swarm:
    """A service whose secret is replaced, as Docker's documentation shows it."""

    def __init__(self, contest, fifo):
        self.contest, self.fifo, self.number = contest, fifo, 0
        docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")

    def secret(self):
        self.number += 1
        docker("secret", "create", f"v{self.number}", "-", text=self.contest.value())
        return f"source=v{self.number},target=db_password"

    def change(self):
        old = f"v{self.number}"
        added = self.secret()
        docker("service", "update", "--quiet", "--secret-rm", old, "--secret-add", added, "peers")

    def run(self, key, count, parallelism):
        """One service with so many tasks, of which so many are replaced at a time; 0 is all."""
        if not self.contest.profile.rotations(key, count):
            return
        tasks = Tasks(count)
        self.contest.watch.expect("mounted", tasks.numbers())
        docker(
            "service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "peers",
            "--replicas", str(count), "--update-parallelism", str(parallelism), "--network", "host",
            "--env", "CONSUMER={{.Task.Slot}}", "--secret", self.secret(),
            "--mount", f"type=bind,source={self.fifo},target=/report", "--log-driver", "none", IMAGE,
        )
        self.contest.watch.wait(RENDER_SECONDS)
        self.contest.measure(key, "mounted", tasks, self.change, patience=CLIENT_SECONDS)
        docker("service", "rm", "peers")
        self.wait_gone()

    def wait_gone(self):
        deadline = time.monotonic() + RENDER_SECONDS
        while self.contest.engine.ask("GET", "/containers/json?all=1"):
            if time.monotonic() > deadline:
                raise TimeoutError("tasks of a removed service are still there")
            time.sleep(0.2)

    def leave(self):
        docker("swarm", "leave", "--force")


class Tasks:
    """A service's tasks, which Swarm numbers from 1."""

    def __init__(self, count):
        self.consumers = range(1, count + 1)

    def numbers(self):
        return list(self.consumers)


def swarm(contest, fifo, counts):
    """Docker Swarm: one task at a time, as is its default, and all at once."""
    service = Swarm(contest, fifo)
    for count in counts:
        service.run("swarm_rolling", count, 1)
        service.run("swarm_at_once", count, 0)
    service.leave()
