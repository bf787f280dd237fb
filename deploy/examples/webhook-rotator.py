#!/usr/bin/env python3
"""A receiver for Keywheel's rotator `webhook`: PORT KEY_FILE. It keeps what each account accepts in memory;
put the API whose credential is rotated into `perform`. Listens on 127.0.0.1: TLS is your proxy's."""
import base64, hmac, json, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, KEY_FILE = int(sys.argv[1]), sys.argv[2]
KEYS = [base64.b64decode(word.removeprefix("whsec_")) for word in open(KEY_FILE, encoding="ascii").read().split()]
WINDOW, MAX_BODY, MAX_DONE = 300, 1 << 20, 10_000  # seconds, bytes, ids
accepted, done, lock = {}, {}, threading.Lock()  # account → values, webhook-id → answer

def is_signed(headers, body):
    name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not name or not (at.isascii() and at.isdecimal() and len(at) < 12) or abs(time.time() - int(at)) > WINDOW:
        return False
    signed = f"{name}.{at}.".encode() + body
    wanted = [b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in KEYS]
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(want, got.encode()) for want in wanted for got in given)

def perform(step, data):
    """Your API goes here. Done twice it changes nothing more; raise ValueError(reason) to refuse."""
    account, value, values = data["account"], data.get("value"), accepted.get(data["account"], [])
    others = [one for one in values if one != value]
    if step == "set":
        accepted[account] = (others[-1:] if data["strategy"] == "dualPassword" else []) + [value]
    elif step == "revoke":
        current = [data["current"]["value"]] if "current" in data else []
        accepted[account] = [one for one in others if one not in current] + current
    elif step in ("test", "probe"):
        return {"accepted": value in values}  # sign in with it, as its users do
    return {}  # create: {"value": "…"} if it is made here, else Keywheel makes it; finish: nothing to do

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if 0 < length <= MAX_BODY else b""
        status, answer = 401, {"reason": "not signed by Keywheel"}
        if is_signed(self.headers, body):
            request, name, status = json.loads(body), self.headers["webhook-id"], 200
            step = request["type"].rpartition(".")[2]
            with lock:  # one at a time
                try:
                    answer = done[name] if name in done else perform(step, request["data"])
                    if step not in ("test", "probe"):
                        done[name] = answer  # each id that changes something once
                    if len(done) > MAX_DONE: done.pop(next(iter(done)))
                except ValueError as refusal:
                    status, answer = 422, {"reason": str(refusal)}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    log_message = lambda *_: None  # neither values nor ids

server = ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
print(f"listening on {server.server_address[1]}", flush=True)
server.serve_forever()
