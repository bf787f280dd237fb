"""How one contestant is measured: changes of a value, and then a while of nothing.

A row says for one contestant and one number of consumers: the milliseconds from when a change is asked
for until each consumer has it, CPU seconds by role over all changes, memory at the end, and what an idle
minute costs.
"""

import random
import time

# Between two changes of a polled value a part of the poll interval passes, so that a change falls
# anywhere in it.
SEED = 20261128


def naming(secret, paths):
    """The requests that name this secret, or one below it."""
    return [path for path in paths if path.endswith(f"/peers/{secret}") or f"/peers/{secret}/" in path]


def about(secret, paths):
    """The requests that name this secret, and those that name none: logins, renewals, health."""
    return [path for path in paths if not path.startswith("secret/") or naming(secret, [path])]


class Contest:
    """What all contestants share, and the rows so far."""

    def __init__(self, ledger, watch, engine, bao, profile, say):
        self.ledger, self.watch, self.engine, self.bao = ledger, watch, engine, bao
        self.profile, self.say = profile, say
        self.random = random.Random(SEED)
        self.values = 0
        self.rows = []

    def value(self):
        """A value that nobody has had."""
        self.values += 1
        return f"value{self.values:027d}"

    def anywhere_in(self, seconds):
        """Waits for a random part of an interval."""
        time.sleep(self.random.uniform(0, seconds))

    def measure(self, key, kind, pool, change, *, poll=0.0, settle=None, store=None, patience=120.0):
        """Changes a value as often as the profile says, and keeps the row.

        `change` asks for it, and returns at once or when it is done; `settle` waits until the next one
        may be asked for. `store` names the secret whose requests an idle contestant makes.
        """
        count = len(pool.consumers)
        rotations = self.profile.rotations(key, count)
        if not rotations:
            return
        samples, spent, begun = [], dict.fromkeys(self.ledger.cpu(), 0.0), time.perf_counter()
        for _ in range(rotations):
            self.anywhere_in(poll)
            before = self.ledger.cpu()
            samples += self.one_change(kind, pool, change, patience)
            if settle:
                settle()
            after = self.ledger.cpu()
            for role in spent:
                spent[role] += after[role] - before[role]
        took = time.perf_counter() - begun
        row = {"key": key, "containers": count, "rotations": rotations, "seconds": round(took, 2)}
        row["samples_ms"] = [round(sample, 2) for sample in samples]
        row["cpu_seconds"] = {role: round(value, 3) for role, value in spent.items()}
        row["idle"] = self.idle(store)
        row["memory_bytes"] = {role: {"pss": p, "rss": r} for role, (p, r) in self.ledger.memory().items()}
        self.keep(row)

    def one_change(self, kind, pool, change, patience):
        """Milliseconds until each consumer had the new value."""
        self.watch.expect(kind, pool.numbers())
        asked = time.perf_counter()
        change()
        seen = self.watch.wait(patience)
        # Several files are of several secrets.
        if kind not in ("start", "files") and len({value for _, value in seen.values()}) != 1:
            raise RuntimeError("consumers have different values after one change")
        return [(when - asked) * 1e3 for when, _ in seen.values()]

    def idle(self, store):
        """What nothing costs for a while; a minute's share is the reader's to compute."""
        seconds = self.profile.idle_seconds
        mark, before, begun = self.bao.mark(), self.ledger.cpu(), time.perf_counter()
        time.sleep(seconds)
        after, took = self.ledger.cpu(), time.perf_counter() - begun
        idle = {"seconds": round(took, 2)}
        idle["cpu_seconds"] = {role: round(after[role] - before[role], 3) for role in after}
        idle["requests"] = len(about(store, self.bao.requests_since(mark))) if store else 0
        return idle

    def keep(self, row):
        """Takes a row, and says what it shows."""
        self.rows.append(row)
        samples = sorted(row["samples_ms"])
        middle, last = samples[len(samples) // 2], samples[-1]
        self.say(
            f"{row['key']:<22} {row['containers']:>4} containers  {row['rotations']:>3} changes  "
            f"middle {middle:>9.1f} ms  slowest {last:>9.1f} ms  ({row['seconds']} s)"
        )
