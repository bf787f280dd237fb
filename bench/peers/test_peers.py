"""What could be wrong without being noticed: reading, counting, ranking, and what is committed."""

import os
import re
import struct
import tempfile
import time
import unittest

import background
import contest
import machine
import many
import openbao
import plan
import plot
import report
import watch


def row(key, containers, samples, **more):
    """A row as a run makes it."""
    cpu = {"own": 0.5, "engine": 1.0, "store": 0.0, "client": 0.25}
    made = {
        "key": key, "containers": containers, "rotations": 5, "seconds": 2.0, "samples_ms": samples,
        "cpu_seconds": cpu, "memory_bytes": {"own": {"pss": 25_000_000, "rss": 30_000_000}},
        "idle": {"seconds": 10.0, "cpu_seconds": dict(cpu), "requests": 10},
    }
    return {**made, **more}


def results(*rows):
    """Results with these rows."""
    return {
        "date": "2026-01-01", "commit": "0000000", "profile": "full", "minutes": 9.5,
        "machine": {"cores": 2, "memory_gb": 24, "kernel": "6.1"},
        "versions": {"docker": "20", "containerd": "1", "runc": "1", "openbao": "2"}, "rows": list(rows),
    }


class Numbers(unittest.TestCase):
    def test_a_percentile_is_a_measured_value_at_the_nearest_rank(self):
        hundred = list(range(100, 0, -1))
        self.assertEqual([report.percentile(hundred, p) for p in (1, 50, 99, 100)], [1, 50, 99, 100])
        self.assertEqual([report.percentile([7, 3], p) for p in (50, 51, 99)], [3, 7, 7])
        self.assertEqual(report.percentile([4.5], 50), 4.5)

    def test_times_and_numbers_have_three_digits(self):
        self.assertEqual([report.span(t) for t in (0.1234, 999.4, 1000, 12345, 150_000)],
                         ["0.123 ms", "999 ms", "1 s", "12.3 s", "150 s"])
        self.assertEqual([report.number(n) for n in (0, 0.1234, 12.34, 1234.5)], ["0", "0.123", "12.3", "1,234"])

    def test_a_change_and_an_idle_minute_are_shares_of_what_was_spent(self):
        one = row("exec", 1, [1.0])
        self.assertEqual(report.cpu_of_a_change(one, "own", "client"), 150.0)
        self.assertEqual((report.a_minute(one, "requests"), report.a_minute(one, "own")), (60.0, 3.0))
        self.assertEqual(report.own_memory(one), 25.0)


class Reading(unittest.TestCase):
    def test_a_stat_line_is_read_whatever_the_name_is(self):
        head = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 "
        self.assertEqual(machine.parse_stat(head + "10 20 300 400 20 0 1 0"), ("a) b (c", 30, 700))

    def test_the_ledger_sees_this_process_as_the_script(self):
        ledger = machine.Ledger()
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        self.assertGreaterEqual(ledger.cpu_of([os.getpid()]), 0.04)
        self.assertEqual(ledger.role(os.getpid(), "python3"), None)
        ledger.stores.add(5)
        ledger.background.add(6)
        roles = [ledger.role(*one) for one in ((4, "bao"), (5, "bao"), (6, "bao"), (7, "containerd-shim"), (8, "sh"))]
        self.assertEqual(roles, ["own", "store", None, "engine", None])

    def test_memory_is_in_bytes(self):
        text = "head\nRss:  2048 kB\nPss:  1024 kB\nPss_Dirty:  5 kB\n"
        self.assertEqual(machine.parse_memory(text), (1 << 20, 2 << 20))
        self.assertGreater(machine.Ledger().memory([os.getpid()])["own"][1], 1 << 20)

    def test_requests_are_counted_once_and_by_their_path(self):
        lines = [
            '{"type":"request","request":{"path":"secret/metadata/peers/a"}}',
            '{"type":"response","request":{"path":"secret/metadata/peers/a"}}',
            '{"type":"request","request":{"path":"secret/data/peers/other-a"}}',
            '{"type":"request","request":{"path":"auth/token/renew-self"}}',
        ]
        paths = openbao.parse_requests("\n".join(lines) + "\n")
        self.assertEqual(contest.about("a", paths), ["secret/metadata/peers/a", "auth/token/renew-self"])
        self.assertEqual(contest.naming("a", paths), ["secret/metadata/peers/a"])
        self.assertEqual(contest.naming("many", ["secret/data/peers/many/7"]), ["secret/data/peers/many/7"])

    def test_several_inotify_events_in_one_buffer(self):
        data = struct.pack("iIII", 3, 8, 0, 16) + b"name".ljust(16, b"\0") + struct.pack("iIII", 4, 8, 0, 0)
        self.assertEqual(watch.events_of(data), [3, 4])


class Watching(unittest.TestCase):
    def setUp(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.root = made.name
        os.makedirs(os.path.join(self.root, os.path.dirname(watch.FILE)))
        self.write("old")
        self.fifo = os.path.join(self.root, "report")
        os.mkfifo(self.fifo)
        self.watch = watch.Watch(self.fifo)

    def write(self, value):
        path = os.path.join(self.root, watch.FILE)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(value)
        os.rename(path + ".new", path)

    def report(self, *lines):
        with open(self.fifo, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def test_a_file_is_seen_when_its_value_is_another_one(self):
        self.watch.add_file(0, self.root)
        self.watch.expect("file", [0])
        self.write("old")
        with self.assertRaises(TimeoutError):
            self.watch.wait(0.1)
        before = time.perf_counter()
        self.write("new")
        when, value = self.watch.wait(5)[0]
        self.assertEqual(value, "new")
        self.assertTrue(before <= when <= time.perf_counter())

    def test_every_file_of_a_directory_is_seen_by_itself(self):
        self.watch.add_file(1, self.root, watch.FILE, "files")
        self.watch.add_file(2, self.root, os.path.dirname(watch.FILE) + "/other", "files")
        self.watch.expect("files", [1, 2])
        self.write("new")
        with self.assertRaises(TimeoutError):
            self.watch.wait(0.1)
        with open(os.path.join(self.root, os.path.dirname(watch.FILE), "other"), "w", encoding="utf-8") as file:
            file.write("more")
        self.assertEqual({n: value for n, (_, value) in self.watch.wait(5).items()}, {1: "new", 2: "more"})

    def test_a_started_program_is_seen_when_it_has_another_value(self):
        self.watch.expect("start", [1, 2])
        self.report("1 a none", "2 a none")
        self.watch.wait(5)
        self.watch.expect("env", [1, 2])
        self.report("1 a none", "2 b none")
        with self.assertRaises(TimeoutError):
            self.watch.wait(0.1)
        self.report("1 b none")
        self.assertEqual({n: value for n, (_, value) in self.watch.wait(5).items()}, {1: "b", 2: "b"})


class Agents:
    """An OpenBao server, and agents that render at once; all are this process."""

    def __init__(self):
        self.process, self.pid = self, os.getpid()
        self.values, self.files, self.log, self.stopped = {}, [], [], 0

    def put(self, name, value):
        self.values[name] = value
        self.log.append(f"secret/data/peers/{name}")
        for secret, path in self.files:
            if secret == name:
                self.render(secret, path)

    def agent_head(self, _setting):
        return ""

    def agent(self, _name, text):
        found = re.search(r"secret/data/peers/([a-z0-9-]+)", text)[1], re.search(r'destination = "(.*)"', text)[1]
        self.files.append(found)
        self.render(*found)
        return self

    def render(self, secret, path):
        self.log.append(f"secret/data/peers/{secret}")
        openbao.write(path, self.values[secret])

    def mark(self):
        return len(self.log)

    def requests_since(self, mark):
        return self.log[mark:]

    def terminate(self):
        pass

    def wait(self):
        self.stopped += 1

    def stop(self):
        self.log.append("stopped")


class Fleets(unittest.TestCase):
    def setUp(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.bao = Agents()
        profile = plan.Profile(quick=True, only=["agent_default"])
        self.ground = background.Background(self.bao, machine.Ledger(), made.name, profile)
        self.ground.interval = 0.2

    def test_a_row_is_of_its_own_agents_and_without_our_own_writes(self):
        self.ground.start()
        rows = list(self.ground.rows(lambda _words: None))
        self.assertEqual([(one["containers"], one["rotations"]) for one in rows], [(1, 3), (10, 1), (100, 1)])
        self.assertEqual([len(one["samples_ms"]) for one in rows], [3, 10, 100])
        self.assertEqual([one["idle"]["requests"] for one in rows], [3, 10, 100])
        self.assertEqual((self.bao.stopped, self.bao.log[-1]), (111, "stopped"))

    def test_a_large_fleet_begins_when_the_small_ones_are_gone(self):
        gone = []
        self.ground.start()
        self.assertEqual([fleet.ident is not None for fleet in self.ground.fleets], [True, True, False])
        for made in self.ground.rows(lambda _words: gone.append(self.bao.stopped)):
            self.assertIn(f"default-{made['containers']}", self.bao.values)
        self.assertEqual(gone, [0, 1, 11])

    def test_a_failure_is_told_when_its_row_is_asked_for(self):
        del self.ground.fleets[1:]
        self.bao.mark = lambda: 1 / 0
        self.ground.start()
        with self.assertRaises(ZeroDivisionError):
            list(self.ground.rows(lambda _words: None))


class Many(unittest.TestCase):
    def test_every_file_is_of_one_secret_and_one_container(self):
        files = [file for number in range(100) for file in many.files_of(number)]
        self.assertEqual(files, list(range(100 * many.FILES)))
        self.assertEqual({many.name_of(file) for file in many.files_of(7)}, {f"s{n}" for n in range(many.FILES)})

    def test_a_service_takes_the_secrets_of_its_turn_under_names_that_stay(self):
        services = many.Services(None, "/fifo", 2)
        first = services.names(1)
        services.turn += 1
        second = services.names(1)
        self.assertEqual((list(first), len(first)), (list(second), many.FILES))
        self.assertFalse(set(first.values()) & set(second.values()))
        self.assertIn("source=m1-1-db_password,target=db_password", services.sources(1, "--secret"))

    def test_a_part_without_a_row_is_left_out(self):
        self.assertEqual(len(report.parts_of(results(row("exec", 1, [1.0])))), 1)


class Committed(unittest.TestCase):
    def test_every_contestant_has_a_label_and_a_plan(self):
        labels = [key for _, keys in report.PARTS for key in keys]
        self.assertEqual(sorted(labels), sorted(plan.TABLE))

    def test_every_contestant_is_measured_at_every_number_of_containers(self):
        for key, counts in plan.TABLE.items():
            self.assertEqual((key, tuple(counts)), (key, report.COUNTS))
            self.assertGreater(min(counts.values()), 0, key)

    def test_a_part_of_the_plan_is_asked_for_by_name_and_number(self):
        part = plan.Profile(quick=True, only=["exec", "restart"], containers=[10])
        self.assertEqual([part.rotations("exec", n) for n in (1, 10)], [0, 3])
        self.assertEqual(part.counts_of("exec", "agent"), [10])
        with self.assertRaisesRegex(ValueError, "nobody"):
            plan.Profile(only=["nobody"])

    def test_the_readme_keeps_what_is_around_the_block(self):
        made = results(row("keywheel_file", 1, [3.0, 5.0]), row("exec", 100, [900.0]))
        text = f"before\n{report.BEGIN}old\n{report.END}after\n"
        once = report.replaced(text, made)
        self.assertTrue(once.startswith("before\n") and once.endswith("after\n"))
        self.assertIn("3 ms / 5 ms", once)
        self.assertEqual(report.replaced(once, made), once)

    def test_a_plot_lies_on_its_axis_and_names_every_contestant(self):
        drawn = plot.draw(results(row("exec", 1, [0.001]), row("swarm_rolling", 100, [1e9])))
        self.assertIn("docker exec", drawn)
        self.assertEqual(plot.place(0.001), plot.LEFT)
        self.assertEqual(plot.place(1e9), plot.WIDTH - plot.RIGHT)

    def test_results_are_read_back_as_they_were(self):
        import json

        made = results(row("exec", 1, [1.0]), row("agent", 1, [2.0]))
        self.assertEqual(json.loads(report.dumped(made)), made)

    def test_table_plot_and_readme_say_what_the_results_say(self):
        self.assertEqual(report.stale(), [], "run bench/peers/run.py --render")


if __name__ == "__main__":
    unittest.main()
