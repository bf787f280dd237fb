"""How often each contestant changes a value, and with how many consumers."""

TABLE = {
    "exec": {1: 20, 10: 10, 100: 2},
    "agent": {1: 20, 10: 10, 100: 5},
    "agent_host": {1: 5, 10: 5, 100: 3},
    "agent_default": {1: 3, 10: 1, 100: 1},
    "restart": {1: 10, 10: 3, 100: 1},
    "supervisor": {1: 5, 10: 3, 100: 1},
    "keywheel_file": {1: 20, 10: 20, 100: 5},
    "keywheel_env": {1: 10, 10: 3, 100: 1},
    "keywheel_replicas": {1: 3, 10: 1, 100: 1},
    "keywheel_bao_file": {1: 20, 10: 20, 100: 5},
    "keywheel_poll_file": {1: 20, 10: 10, 100: 5},
    "keywheel_poll_env": {1: 5, 10: 3, 100: 1},
    "swarm_rolling": {1: 3, 10: 1, 100: 1},
    "swarm_at_once": {1: 3, 10: 2, 100: 1},
    "many_keywheel": {1: 10, 10: 5, 100: 2},
    "many_agent": {1: 10, 10: 5, 100: 2},
    "many_swarm": {1: 2, 10: 1, 100: 1},
}
QUICK_ROTATIONS = 3
IDLE_SECONDS, QUICK_IDLE_SECONDS = 10.0, 4.0


class Profile:
    """The whole table, or a part of it."""

    def __init__(self, quick=False, only=(), containers=()):
        self.name = "quick" if quick else "full"
        self.idle_seconds = QUICK_IDLE_SECONDS if quick else IDLE_SECONDS
        most = QUICK_ROTATIONS if quick else max(max(counts.values()) for counts in TABLE.values())
        unknown = set(only) - set(TABLE)
        if unknown:
            raise ValueError(f"unknown contestants: {', '.join(sorted(unknown))}; known: {', '.join(TABLE)}")
        self.table = {
            key: {count: min(often, most) for count, often in counts.items() if not containers or count in containers}
            for key, counts in TABLE.items() if not only or key in only
        }

    def rotations(self, key, count):
        """How many changes; 0 where this is not measured."""
        return self.table.get(key, {}).get(count, 0)

    def counts_of(self, *keys):
        """All numbers of consumers of these contestants, from small to large."""
        return sorted({count for key in keys for count in self.table.get(key, {})})
