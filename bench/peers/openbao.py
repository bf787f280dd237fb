"""An OpenBao server of the run's own, and its agents.

The server runs in memory, as `bao server -dev`, with a file audit device that counts requests.
Agents log in by AppRole, as does Keywheel where OpenBao is its store.
"""

import http.client
import json
import os
import subprocess
import time

PORT, SECOND_PORT = 8200, 8210
ROOT = "root-token-of-a-benchmark"
READY_SECONDS = 60
POLICY = """
path "secret/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"""


def parse_requests(text):
    """The paths of the requests in an audit log, in order."""
    found = []
    for line in text.splitlines():
        record = json.loads(line)
        if record.get("type") == "request":
            found.append(record.get("request", {}).get("path", ""))
    return found


class OpenBao:
    """The server."""

    def __init__(self, program, work, port=PORT):
        self.program, self.work, self.port = program, os.path.join(work, f"openbao-{port}"), port
        os.makedirs(self.work)
        self.audit = os.path.join(self.work, "audit.log")
        settings = os.path.join(self.work, "server.hcl")
        write(settings, f'audit "file" "requests" {{ options = {{ file_path = "{self.audit}" }} }}\n')
        self.process = self.spawn(
            ["server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}",
             f"-dev-listen-address=127.0.0.1:{self.port}", f"-config={settings}"], "server.log")
        self.wait_ready()
        self.ask("POST", "sys/policies/acl/peers", {"policy": POLICY})
        self.ask("POST", "sys/auth/approle", {"type": "approle"})
        role = {"token_policies": "peers", "token_ttl": "24h"}
        self.ask("POST", "auth/approle/role/peers", role)
        self.role_id = os.path.join(self.work, "role-id")
        self.secret_id = os.path.join(self.work, "secret-id")
        role_id = self.ask("GET", "auth/approle/role/peers/role-id")["data"]["role_id"]
        secret_id = self.ask("POST", "auth/approle/role/peers/secret-id", {})["data"]["secret_id"]
        write(self.role_id, role_id)
        write(self.secret_id, secret_id)

    def spawn(self, words, log):
        output = open(os.path.join(self.work, log), "ab")
        return subprocess.Popen(
            [self.program, *words, "-log-level=warn"], env={"HOME": self.work, "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                return self.ask("GET", "sys/mounts/secret/tune")
            except (OSError, RuntimeError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("OpenBao does not answer; read server.log") from error
                time.sleep(0.05)

    def ask(self, method, path, body=None):
        """One request as root."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        text = json.dumps(body) if body is not None else None
        connection.request(method, f"/v1/{path}", text, {"X-Vault-Token": ROOT})
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"OpenBao answered {method} {path}: {answer.status}")
        return json.loads(said) if said else {}

    def put(self, name, value):
        """Writes a value, as a person or another program would."""
        self.ask("POST", f"secret/data/peers/{name}", {"data": {"value": value}})

    def stop(self):
        """Ends it."""
        self.process.kill()
        self.process.wait()

    def mark(self):
        """A place in the audit log."""
        return os.path.getsize(self.audit)

    def requests_since(self, mark):
        """The paths of the requests since then."""
        with open(self.audit, "rb") as file:
            file.seek(mark)
            return parse_requests(file.read().decode())

    def agent(self, name, text):
        """Starts an agent on this host."""
        path = os.path.join(self.work, f"{name}.hcl")
        write(path, text)
        return self.spawn(["agent", f"-config={path}"], "agents.log")

    def agent_head(self, interval, directory=None):
        """How an agent logs in, and how often it looks; with files below another directory."""
        directory = directory or self.work
        every = f'template_config {{ static_secret_render_interval = "{interval}" }}\n' if interval else ""
        return (
            f'vault {{ address = "http://127.0.0.1:{self.port}" }}\n'
            'auto_auth { method "approle" { config = {\n'
            f'  role_id_file_path = "{directory}/role-id"\n'
            f'  secret_id_file_path = "{directory}/secret-id"\n'
            "  remove_secret_id_file_after_reading = false\n} } }\n" + every
        )


def template(name, destination):
    """A file that an agent renders."""
    return f'template {{\n  contents = "{contents(name)}"\n  destination = "{destination}"\n  perms = "0400"\n}}\n'


def supervisor(name):
    """A program that an agent runs with a variable, and runs anew when the value is another one."""
    return (
        f'env_template "API_TOKEN" {{ contents = "{contents(name)}" }}\n'
        'exec {\n  command = ["/bin/app"]\n  restart_on_secret_changes = "always"\n'
        '  restart_stop_signal = "SIGTERM"\n}\n'
    )


def contents(name):
    return f'{{{{ with secret \\"secret/data/peers/{name}\\" }}}}{{{{ .Data.data.value }}}}{{{{ end }}}}'


def write(path, text):
    """A file that only its owner reads."""
    with open(path, "w", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(text)
