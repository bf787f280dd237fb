"""OpenBao agents with the default interval: five minutes, so they are measured while the others are.

Ten of them, started evenly over one interval on a server of their own; their consumers are directories.
They are in nobody else's figures, and while they wait they cost next to nothing.
"""

import os
import threading
import time

import openbao as ob
from watch import Watch

AGENTS = 10
# What an agent does when it is told nothing; a test of this script says another one.
DEFAULT, QUICK = 300.0, 20.0
SLACK = 30.0
KEY = "agent_default"


class Background(threading.Thread):
    """Measures while others do; `result` waits for it."""

    def __init__(self, bao, ledger, files, quick):
        super().__init__(daemon=True)
        self.bao, self.ledger, self.files = bao, ledger, files
        self.interval, self.setting = (QUICK, f"{QUICK:.0f}s") if quick else (DEFAULT, "")
        self.step = self.interval / AGENTS
        self.agents, self.row, self.failure = [], None, None
        ledger.background.add(bao.process.pid)

    def run(self):
        try:
            self.row = self.measure()
        except Exception as error:  # Told by `result`, in the run's own thread.
            self.failure = error

    def root(self, number):
        return os.path.join(self.files, f"default-{number}")

    def start_all(self, watch):
        """One agent after the other, over an interval less half a step: each has its own phase."""
        begun = time.monotonic()
        self.bao.put("default", "first")
        for number in range(AGENTS):
            time.sleep(max(0.0, begun + number * self.step - time.monotonic()))
            destination = os.path.join(self.root(number), "run/secrets/db_password")
            os.makedirs(os.path.dirname(destination))
            watch.add_file(number, self.root(number))
            text = self.bao.agent_head(self.setting) + ob.template("default", destination)
            agent = self.bao.agent(f"default-{number}", text)
            self.ledger.background.add(agent.pid)
            self.agents.append(agent)
        time.sleep(max(0.0, begun + self.interval - self.step / 2 - time.monotonic()))

    def measure(self):
        watch = Watch()
        self.start_all(watch)
        pids = [agent.pid for agent in self.agents]
        mark, spent, begun = self.bao.mark(), self.ledger.cpu_of(pids), time.perf_counter()
        watch.expect("file", range(AGENTS))
        self.bao.put("default", "second")
        seen = watch.wait(self.interval + SLACK)
        took = time.perf_counter() - begun
        cpu = {"own": round(self.ledger.cpu_of(pids) - spent, 3)}
        # Our own write is in the log, too.
        requests = len(self.bao.requests_since(mark)) - 1
        pss, rss = self.ledger.memory(pids)["own"]
        samples = [round((when - begun) * 1e3, 2) for when, _ in seen.values()]
        row = {"key": KEY, "containers": AGENTS, "rotations": 1, "seconds": round(took, 2)}
        row.update(samples_ms=samples, cpu_seconds=cpu, memory_bytes={"own": {"pss": pss, "rss": rss}})
        row["idle"] = {"seconds": round(took, 2), "cpu_seconds": cpu, "requests": requests}
        return row

    def result(self):
        """The row, when it is there."""
        self.join()
        for agent in self.agents:
            agent.terminate()
            agent.wait()
        self.bao.stop()
        if self.failure:
            raise self.failure
        return self.row
