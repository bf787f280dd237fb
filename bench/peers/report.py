"""From a run's rows to a table, a plot and the README's block. It measures nothing."""

import json
import math
import os

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results")
README = os.path.join(HERE, "..", "..", "README.md")
BEGIN = "<!-- bench/peers: written by bench/peers/run.py -->\n"
END = "<!-- bench/peers: end -->\n"
COUNTS = (1, 10, 100)
FILE_KEYS = {
    "keywheel_file": "Keywheel, rotated by command",
    "keywheel_bao_file": "Keywheel, rotated by command, store OpenBao",
    "keywheel_poll_file": "Keywheel, written in OpenBao by others, looks every 1 s",
    "agent": "OpenBao agent, one per container, looks every 1 s",
    "agent_host": "OpenBao agent, one for the host, looks every 1 s",
    "agent_default": "OpenBao agent, one per container, default interval",
    "exec": "`docker exec`, a write by hand",
    "swarm_rolling": "Docker Swarm, service update: tasks replaced one by one",
    "swarm_at_once": "Docker Swarm, service update: tasks replaced all at once",
}
ENV_KEYS = {
    "keywheel_env": "Keywheel, rotated by command, services of their own",
    "keywheel_replicas": "Keywheel, rotated by command, replicas of one service",
    "keywheel_poll_env": "Keywheel, written in OpenBao by others, looks every 1 s",
    "supervisor": "OpenBao agent as process supervisor, looks every 1 s",
    "restart": "bare `docker restart`, which changes no value",
}
MANY_KEYS = {
    "many_keywheel": "Keywheel, all rotated by its API",
    "many_agent": "OpenBao agent, one for the host, looks every 1 s",
    "many_swarm": "Docker Swarm, a service each, all updated at once",
}
PARTS = (
    ("A file with the new value", FILE_KEYS),
    ("A process with a variable of the new value", ENV_KEYS),
    ("Ten secrets of its own in every container, all changed together", MANY_KEYS),
)


def percentile(samples, percent):
    """The nearest rank: a value that was measured."""
    ordered = sorted(samples)
    rank = max(1, math.ceil(len(ordered) * percent / 100))
    return ordered[rank - 1]


def span(milliseconds):
    """A time as people write it, three digits at most."""
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def number(value):
    """Three digits, and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def own_memory(row):
    """Megabytes that the contestant's own processes hold; none where it has no process."""
    return row["memory_bytes"].get("own", {}).get("pss", 0) / 1e6


def a_minute(row, field):
    """What an idle minute costs: requests, or CPU seconds of a role."""
    idle = row["idle"]
    spent = idle["requests"] if field == "requests" else idle["cpu_seconds"].get(field, 0.0)
    return spent * 60 / idle["seconds"]


def cpu_of_a_change(row, *roles):
    """CPU milliseconds of these roles for one change in all containers."""
    return sum(row["cpu_seconds"].get(role, 0.0) for role in roles) * 1e3 / row["rotations"]


def rows_of(results, key):
    """The rows of a contestant, by number of containers."""
    return {row["containers"]: row for row in results["rows"] if row["key"] == key}


def parts_of(results):
    """Title and contestants of each part that has a row."""
    return [(title, keys) for title, keys in PARTS if any(rows_of(results, key) for key in keys)]


def full_table(results):
    """Every row with every figure."""
    lines = []
    for title, keys in parts_of(results):
        lines += [f"### {title}", "", HEAD, RULE]
        for key, label in keys.items():
            lines += [full_line(label, row) for _, row in sorted(rows_of(results, key).items())]
        lines.append("")
    return "\n".join(lines)


HEAD = (
    "| how | containers | changes | p50 | p99 | slowest | CPU ms a change: own / engine / store "
    "| memory, MB | idle minute: CPU ms own / engine | idle minute: requests |"
)
RULE = "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"


def full_line(label, row):
    samples = row["samples_ms"]
    change = " / ".join(
        number(cpu_of_a_change(row, *roles)) for roles in (("own", "client"), ("engine",), ("store",)))
    idle = " / ".join(number(a_minute(row, role) * 1e3) for role in ("own", "engine"))
    cells = [
        label, str(row["containers"]), str(row["rotations"]), span(percentile(samples, 50)),
        span(percentile(samples, 99)), span(max(samples)), change, number(own_memory(row)), idle,
        number(a_minute(row, "requests")),
    ]
    return f"| {' | '.join(cells)} |"


def short_table(results):
    """What the README shows: times at each number of containers; memory and requests at the largest."""
    lines = [
        "| p50 / p99 from the change until a container has it | 1 | 10 | 100 | memory, MB | requests an idle minute |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for title, keys in parts_of(results):
        lines.append(f"| **{title}** | | | | | |")
        for key, label in keys.items():
            rows = rows_of(results, key)
            if not rows:
                continue
            last = rows[max(rows)]
            cells = [label, *(short_cell(rows.get(count)) for count in COUNTS)]
            cells += [number(own_memory(last)) if own_memory(last) else "-", number(a_minute(last, "requests"))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def short_cell(row):
    if row is None:
        return ""
    return f"{span(percentile(row['samples_ms'], 50))} / {span(percentile(row['samples_ms'], 99))}"


def method(results):
    """One paragraph on where and when."""
    machine, versions = results["machine"], results["versions"]
    return (
        f"{results['date']}, commit {results['commit']}: {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"Linux {machine['kernel']}, Docker {versions['docker']}, runc {versions['runc']}, "
        f"OpenBao {versions['openbao']}; one run of {results['minutes']} minutes."
    )


def block(results):
    """The README's block."""
    return (
        f"{BEGIN}![Time until every container has a new value, logarithmic](bench/peers/results/latency.svg)\n\n"
        f"{short_table(results)}\n\n{method(results)} Memory is of the contestant's own processes at the largest "
        "number of containers; so are requests to OpenBao. "
        "[Method and all figures](bench/peers/README.md).\n" + END
    )


def replaced(text, results):
    """The README with this block."""
    begin, end = text.index(BEGIN), text.index(END)
    return text[:begin] + block(results) + text[end + len(END):]


def rendered(results, readme):
    """Every file that follows from the results."""
    import plot

    table = f"# Results\n\n{method(results)}\n\n{full_table(results)}"
    return {
        os.path.join(RESULTS, "table.md"): table,
        os.path.join(RESULTS, "latency.svg"): plot.draw(results),
        README: replaced(readme, results),
    }


def load():
    """The committed results; none before the first run."""
    path = os.path.join(RESULTS, "results.json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def read(path):
    """A file's text; nothing when it is missing."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def stale():
    """Files that do not say what the committed results say."""
    results = load()
    if results is None:
        return []
    files = rendered(results, read(README))
    return [os.path.basename(path) for path, text in files.items() if read(path) != text]


def write(results=None):
    """Writes results, if given, and everything that follows from the committed ones."""
    os.makedirs(RESULTS, exist_ok=True)
    if results is not None:
        save(os.path.join(RESULTS, "results.json"), dumped(results))
    for path, text in rendered(load(), read(README)).items():
        save(path, text)


def save(path, text):
    """Writes a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def dumped(results):
    """JSON with one row a line, so that a change of results is readable."""
    rows = ",\n    ".join(json.dumps(row) for row in results["rows"])
    head = json.dumps({**results, "rows": []}, indent=2)
    return head.replace('"rows": []', f'"rows": [\n    {rows}\n  ]') + "\n"
