"""OpenBao agents with the default interval: five minutes, so few of them are measured while the others are.

A fleet is so many agents with a secret and a watch of their own; their consumers are directories. All are
on one server of their own and in nobody else's figures. Small fleets wait beside the other contestants and
cost next to nothing; a large one would take memory and processor from them, so it comes when they are gone.
"""

import os
import random
import threading
import time

import openbao as ob
from contest import SEED, naming
from watch import FILE, Watch

# The largest fleet that runs beside the others.
BESIDE = 10
# What an agent does when it is told nothing; a test of this script says another one.
DEFAULT, QUICK = 300.0, 20.0
SLACK = 60.0
KEY = "agent_default"


class Background:
    """The fleets of a profile and the server they ask."""

    def __init__(self, bao, ledger, files, profile):
        self.bao, self.ledger, self.files = bao, ledger, files
        self.interval, self.setting = (QUICK, f"{QUICK:.0f}s") if profile.name == "quick" else (DEFAULT, "")
        self.fleets = [Fleet(self, count, profile.rotations(KEY, count)) for count in profile.counts_of(KEY)]
        ledger.background.add(bao.process.pid)

    def start(self):
        """The small fleets begin."""
        for fleet in self.fleets:
            if fleet.count <= BESIDE:
                fleet.start()

    def rows(self, say):
        """Each fleet's row when it is there; large fleets begin here, one after the other."""
        for fleet in self.fleets:
            if fleet.count > BESIDE:
                fleet.start()
            say(f"waiting for agents with the default interval, {fleet.count} of them")
            yield fleet.result()
        self.bao.stop()


class Fleet(threading.Thread):
    """So many agents of one secret, in a thread of their own; `result` waits for their row."""

    def __init__(self, ground, count, rotations):
        super().__init__(daemon=True)
        self.ground, self.count, self.rotations = ground, count, rotations
        self.secret = f"default-{count}"
        self.random, self.watch = random.Random(SEED), Watch()
        self.agents, self.row, self.failure = [], None, None

    def run(self):
        try:
            self.start_agents()
            self.row = self.measure()
        except Exception as error:  # Told by `result`, in the run's own thread.
            self.failure = error

    def step(self):
        """From one agent's look to the next agent's: what the agents do comes again after it."""
        return self.ground.interval / self.count

    def start_agents(self):
        """One after the other, evenly over an interval: each has its own phase. Then all have a first value."""
        begun = time.monotonic()
        self.watch.expect("file", range(self.count))
        self.ground.bao.put(self.secret, "first")
        for number in range(self.count):
            time.sleep(max(0.0, begun + number * self.step() - time.monotonic()))
            self.start_agent(number)
        self.watch.wait(SLACK)

    def start_agent(self, number):
        bao, root = self.ground.bao, os.path.join(self.ground.files, f"{self.secret}-{number}")
        destination = os.path.join(root, FILE)
        os.makedirs(os.path.dirname(destination))
        self.watch.add_file(number, root)
        text = bao.agent_head(self.ground.setting) + ob.template(self.secret, destination)
        agent = bao.agent(f"{self.secret}-{number}", text)
        self.ground.ledger.background.add(agent.pid)
        self.agents.append(agent)

    def pids(self):
        return [agent.pid for agent in self.agents]

    def cpu(self):
        """CPU seconds of these agents so far, and of nobody else."""
        return self.ground.ledger.cpu_of(self.pids())

    def measure(self):
        """The changes. What an idle minute costs is counted over all of it: hardly any of it is a change."""
        mark, spent, begun = self.ground.bao.mark(), self.cpu(), time.perf_counter()
        samples, changing = [], 0.0
        for number in range(self.rotations):
            added, cost = self.change(f"change-{number}")
            samples, changing = samples + added, changing + cost
        took = round(time.perf_counter() - begun, 2)
        idle = {"seconds": took, "cpu_seconds": {"own": round(self.cpu() - spent, 3)}, "requests": self.requests(mark)}
        row = {"key": KEY, "containers": self.count, "rotations": self.rotations, "seconds": took}
        row.update(samples_ms=samples, cpu_seconds={"own": round(changing, 3)}, idle=idle)
        pss, rss = self.ground.ledger.memory(self.pids())["own"]
        return {**row, "memory_bytes": {"own": {"pss": pss, "rss": rss}}}

    def change(self, value):
        """Milliseconds until each agent has rendered a new value, and the agents' CPU seconds until then."""
        time.sleep(self.random.uniform(0, self.step()))
        self.watch.expect("file", range(self.count))
        spent, asked = self.cpu(), time.perf_counter()
        self.ground.bao.put(self.secret, value)
        seen = self.watch.wait(self.ground.interval + SLACK)
        if {found for _, found in seen.values()} != {value}:
            raise RuntimeError("agents have rendered another value than the one that was written")
        return [round((when - asked) * 1e3, 2) for when, _ in seen.values()], self.cpu() - spent

    def requests(self, mark):
        """The agents' requests for their secret since then; our own writes are in the log, too."""
        return len(naming(self.secret, self.ground.bao.requests_since(mark))) - self.rotations

    def result(self):
        """The row, when it is there; the agents are gone then."""
        self.join()
        for agent in self.agents:
            agent.terminate()
        for agent in self.agents:
            agent.wait()
        if self.failure:
            raise self.failure
        return self.row
