"""`keywheel up` of the run's own, and the manifests it is given."""

import json
import os
import subprocess
import time

from engine import UnixConnection

READY_SECONDS = 60
STOP_SECONDS = 30
GENERATOR = "generator: { length: 32, alphabet: abcdefghijkmnpqrstuvwxyz23456789 }"


class Keywheel:
    """The server and its command line."""

    def __init__(self, programs, work, name, ledger, credentials):
        self.program, self.ledger = os.path.join(programs, "keywheel"), ledger
        self.run = os.path.join(work, "keywheel")
        data = os.path.join(work, f"keywheel-{name}")
        for path in (self.run, data):
            os.makedirs(path, exist_ok=True)
        os.chmod(data, 0o700)
        self.data = data
        self.environment = {
            **os.environ,
            "KEYWHEEL_ADDRESS": f"unix://{self.run}/keywheel.sock",
            "KEYWHEEL_STORES_CREDENTIALS_DIR": credentials,
        }
        self.log = open(os.path.join(work, f"keywheel-{name}.log"), "wb")
        self.process = subprocess.Popen(
            [self.program, "up", "--data-dir", os.path.join(data, "data"), "--socket", f"{self.run}/keywheel.sock",
             "--unseal-key-file", os.path.join(data, "unseal.key")],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.wait_ready()
        self.host = self.json("status")["host"]

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while self.command("status", "-o", "json", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"keywheel up is not ready; read {self.log.name}")
            time.sleep(0.1)

    def command(self, *words, check=True, text=None):
        """Runs the command line."""
        done = subprocess.run(
            [self.program, *words], env=self.environment, input=text, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"keywheel {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done

    def json(self, *words):
        """What a verb answers."""
        return json.loads(self.command(*words, "-o", "json").stdout)

    def apply(self, *documents):
        """Applies manifests."""
        path = os.path.join(self.data, "manifest.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write("---\n".join(documents))
        self.command("apply", "-f", path)

    def rotate(self, name):
        """Rotates and waits for every acknowledgement."""
        self.command("rotate", name, "--wait", "-o", "json")

    def begin_rotation(self, name):
        """Asks for a rotation at the API, as a program does, and waits for nothing."""
        connection = UnixConnection(f"{self.run}/keywheel.sock")
        body = json.dumps({"secret": name})
        connection.request("POST", "/v1/rotate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"keywheel answered the rotation of {name}: {answer.status} {said}")

    def wait_rest(self, seconds=600):
        """Waits until no rotation is open; nobody's client."""
        deadline = time.monotonic() + seconds
        with self.ledger.uncounted():
            while self.json("status")["open_rotations"]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"rotations are still open after {seconds} s")
                time.sleep(0.5)

    def wait_closed(self, name, seconds=180):
        """Waits until no rotation of this secret is open; nobody's client."""
        deadline = time.monotonic() + seconds
        with self.ledger.uncounted():
            while self.json("describe", "rotation", name)["state"] not in ("completed", "closed"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the rotation of {name} is still open after {seconds} s")
                time.sleep(0.2)

    def stop(self):
        self.process.terminate()
        self.process.wait(STOP_SECONDS)


def store(name, bao, poll):
    """A declared store."""
    return f"""apiVersion: keywheel.dev/v1
kind: Store
metadata: {{ name: {name} }}
spec:
  vault:
    address: http://127.0.0.1:{bao.port}
    auth: {{ appRole: {{ roleId: {open(bao.role_id, encoding="utf-8").read()}, secretId: {{ file: {bao.secret_id} }} }} }}
  poll: {poll}
"""


def secret(name, *lines):
    """A secret, with the lines of its specification."""
    spec = "\n".join(f"  {line}" for line in lines)
    return f"apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n{spec}\n"


def binding(name, of, host, image, app, target, reload):
    """Which containers get it, and as what."""
    return f"""apiVersion: keywheel.dev/v1
kind: Binding
metadata: {{ name: {name} }}
spec:
  secret: {of}
  containers: {{ host: "{host}", image: "{image}", labels: {{ app: {app} }} }}
  {target}
  reload: {reload}
"""
