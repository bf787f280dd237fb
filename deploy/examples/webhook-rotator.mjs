#!/usr/bin/env node
// A receiver for Keywheel's rotator `webhook`: PORT KEY_FILE. It keeps what each account accepts in memory;
// put the API whose credential is rotated into `perform`. Listens on 127.0.0.1: TLS is your proxy's.
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const [port, keyFile] = process.argv.slice(2);
const words = readFileSync(keyFile, "ascii").split(/\s+/).filter(Boolean);
const keys = words.map((word) => Buffer.from(word.replace(/^whsec_/, ""), "base64"));
const window = 300, maxBody = 1 << 20, maxDone = 10_000; // seconds, bytes, ids
const accepted = new Map(), done = new Map(); // account → values, webhook-id → answer

function isSigned(headers, body) {
  const name = headers["webhook-id"] ?? "", at = headers["webhook-timestamp"] ?? "";
  if (!name || !/^\d{1,11}$/.test(at) || Math.abs(Date.now() / 1000 - Number(at)) > window) return false;
  const sign = (key) => createHmac("sha256", key).update(`${name}.${at}.`).update(body).digest("base64");
  const wanted = keys.map((key) => Buffer.from(`v1,${sign(key)}`));
  const given = (headers["webhook-signature"] ?? "").split(" ").map((word) => Buffer.from(word));
  return wanted.some((want) => given.some((got) => want.length === got.length && timingSafeEqual(want, got)));
}

// Your API goes here. Done twice it changes nothing more; throw an Error with a reason to refuse.
async function perform(step, { account, value, strategy, current }) {
  const values = accepted.get(account) ?? [], others = values.filter((one) => one !== value);
  if (step === "set") {
    accepted.set(account, [...(strategy === "dualPassword" ? others.slice(-1) : []), value]);
  } else if (step === "revoke") {
    accepted.set(account, current ? [...others.filter((one) => one !== current.value), current.value] : others);
  } else if (step === "test" || step === "probe") {
    return { accepted: values.includes(value) }; // sign in with it, as its users do
  }
  return {}; // create: { value: "…" } if it is made here, else Keywheel makes it; finish: nothing to do
}

async function handle(headers, body) {
  if (!isSigned(headers, body)) return [401, { reason: "not signed by Keywheel" }];
  const { type, data } = JSON.parse(body), name = headers["webhook-id"], step = type.split(".").at(-1);
  try {
    if (step === "test" || step === "probe") return [200, await perform(step, data)];
    const doing = done.get(name) ?? perform(step, data); // each id once: a repeat waits for the first one
    done.set(name, doing);
    if (done.size > maxDone) done.delete(done.keys().next().value);
    return [200, await doing];
  } catch (refusal) {
    done.delete(name);
    return [422, { reason: refusal.message }];
  }
}

async function serve(request, response) {
  const parts = [];
  let size = 0;
  for await (const part of request) if ((size += part.length) <= maxBody) parts.push(part);
  const [status, answer] = await handle(request.headers, Buffer.concat(parts));
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
}

const server = createServer((request, response) => serve(request, response).catch(() => response.destroy()));
server.listen(Number(port), "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
