"""Many secrets at once: every container has ten of its own, and all of them are changed together.

So 100 containers are 1,000 secrets, of which each has one consumer. A file counts by itself; a task of
Swarm, which is replaced with all its files, counts once.
"""

import time

import contestants as peers
import keywheel as kw
import openbao as ob
from engine import IMAGE, Pool, container, in_parallel

FILES = 10
# Documents in one apply.
BATCH = 400


class Files:
    """The files of a pool's containers."""

    def __init__(self, pool):
        self.pool, self.consumers = pool, pool.consumers

    def numbers(self):
        """The numbers of all, container by container."""
        return [file for number in self.pool.numbers() for file in files_of(number)]

    def watch(self):
        """They are watched from now on, and nothing else."""
        watch, engine = self.pool.watch, self.pool.engine
        watch.forget_files()
        for consumer in self.pool.consumers:
            engine.learn_pid(consumer)
            for file in files_of(consumer.number):
                watch.add_file(file, f"/proc/{consumer.pid}/root", f"run/secrets/{name_of(file)}", "files")


def files_of(number):
    """The numbers of a container's files, which are those of its secrets."""
    return range(number * FILES, (number + 1) * FILES)


def name_of(file):
    """What the file is called in its container."""
    return f"s{file % FILES}"


def keywheel(contest, programs, work, fifo, image, counts):
    """Keywheel with its own store: every rotation is asked for at its API, as a program does."""
    ours = peers.Ours(contest, programs, work, fifo, image, "many")
    declare(ours, max(counts))
    describe = lambda number: container(number, fifo, labels={"app": f"many-{number}"}, runtime="keywheel")
    pool = Pool(contest.engine, contest.watch, "many", describe)
    for count in counts:
        pool.grow(count)
        files = Files(pool)
        files.watch()
        names = [f"peers/many-{file}" for file in files.numbers()]
        change = lambda: in_parallel(ours.keywheel.begin_rotation, names, peers.CORES)
        contest.measure("many_keywheel", "files", files, change, settle=ours.keywheel.wait_rest)
    ours.stop()


def declare(ours, containers):
    """All secrets and bindings, with a first version of each."""
    documents = []
    for number in range(containers):
        for file in files_of(number):
            secret, target = f"peers/many-{file}", f'file: {{ name: {name_of(file)}, mode: "0400" }}'
            documents.append(kw.secret(secret, "store: local", kw.GENERATOR))
            documents.append(kw.binding(
                f"many-{file}", secret, ours.keywheel.host, ours.image, f"many-{number}", target, "none"))
    for first in range(0, len(documents), BATCH):
        ours.keywheel.apply(*documents[first:first + BATCH])
    ours.keywheel.wait_rest()


def agent(contest, directory, fifo, counts):
    """One OpenBao agent for the host, at its shortest interval, with a template for each file.

    An agent for each container, as a sidecar is, is a hundred programs that make a thousand requests a second
    together: on two cores they do not come to an end.
    """
    plain, bao = peers.Plain(contest, directory, fifo), contest.bao
    for count in counts:
        plain.pool.grow(count)
        files = Files(plain.pool)
        put = lambda value: in_parallel(lambda file: bao.put(f"many/{file}", value), files.numbers(), peers.CORES)
        value = contest.value()
        put(value)
        paths = {file: path_of(plain, file) for file in files.numbers()}
        templates = "".join(ob.template(f"many/{file}", path) for file, path in paths.items())
        running = [bao.agent("many", bao.agent_head("1s") + templates)]
        wait_rendered(list(paths.values()), value)
        files.watch()
        change = lambda: put(contest.value())
        contest.measure("many_agent", "files", files, change, poll=peers.POLL, store="many")
        peers.end(running)
    contest.engine.remove_all()


def path_of(plain, file):
    """Where the agent writes a file."""
    return f"{plain.directory(file // FILES)}/{name_of(file)}"


def wait_rendered(paths, value):
    """Waits until all have this value."""
    deadline = time.monotonic() + peers.RENDER_SECONDS
    while paths:
        paths = [path for path in paths if not peers.has(path, value)]
        if time.monotonic() > deadline:
            raise TimeoutError(f"agents have not rendered {len(paths)} files after {peers.RENDER_SECONDS} s")
        time.sleep(0.1)


class Services:
    """Services of one task each, whose ten secrets are all replaced in one update."""

    def __init__(self, contest, fifo, count):
        self.contest, self.fifo, self.turn = contest, fifo, 0
        self.tasks = peers.Tasks(count)

    def names(self, number):
        """What this turn's secrets are called, by the files that they are."""
        # The first is what the consumer's program reports.
        targets = ["db_password", *(f"s{n}" for n in range(1, FILES))]
        return {target: f"m{self.turn}-{number}-{target}" for target in targets}

    def make_secrets(self):
        """A next version of every secret."""
        self.turn += 1
        value = self.contest.value()
        names = [name for number in self.tasks.numbers() for name in self.names(number).values()]
        in_parallel(lambda name: peers.docker("secret", "create", name, "-", text=value), names, peers.CORES)

    def sources(self, number, flag):
        """The flags that give a service this turn's secrets."""
        named = self.names(number).items()
        return [word for target, name in named for word in (flag, f"source={name},target={target}")]

    def create(self):
        """Starts all of them with a first version."""
        self.make_secrets()
        self.contest.watch.expect("mounted", self.tasks.numbers())
        in_parallel(self.create_one, self.tasks.numbers(), peers.CORES)
        self.contest.watch.wait(peers.CLIENT_SECONDS)

    def create_one(self, number):
        peers.docker(
            "service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", f"many-{number}",
            "--network", "host", "--env", f"CONSUMER={number}", *self.sources(number, "--secret"),
            "--mount", f"type=bind,source={self.fifo},target=/report", "--log-driver", "none", IMAGE,
        )

    def change(self):
        """All are updated at once: no update waits for the one before."""
        old = {number: self.names(number).values() for number in self.tasks.numbers()}
        self.make_secrets()

        def update(number):
            gone = [word for name in old[number] for word in ("--secret-rm", name)]
            added = self.sources(number, "--secret-add")
            peers.docker("service", "update", "--detach", "--quiet", *gone, *added, f"many-{number}")

        in_parallel(update, self.tasks.numbers(), peers.CORES)

    def remove(self):
        """None of them is left."""
        peers.docker("service", "rm", *(f"many-{number}" for number in self.tasks.numbers()))


def swarm(contest, fifo, counts):
    """Docker Swarm: a service for each container, since the secrets of a service are those of all its tasks."""
    swarm_of_one = peers.Swarm(contest, fifo)
    for count in counts:
        services = Services(contest, fifo, count)
        services.create()
        contest.measure(
            "many_swarm", "mounted", services.tasks, services.change, patience=peers.CLIENT_SECONDS)
        services.remove()
        swarm_of_one.wait_gone()
    swarm_of_one.leave()
