// Has AsyncAPI's own parser judge the generated document, and Ajv its examples, which are the golden
// events; and shows that both would say no:
//   node tests/asyncapi/check.cjs schemas/generated/asyncapi.v1.json
// Both are installed by tests/run.sh; KEYWHEEL_ASYNCAPI_DIR names another place.
'use strict';
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const VERSION = '3.6.6';
const DIR = process.env.KEYWHEEL_ASYNCAPI_DIR
  ?? path.join(os.homedir(), '.cache/keywheel/asyncapi', VERSION);
const ERROR = 0;
// Advice about style that says nothing about whether the document is right.
const ADVICE = new Set(['asyncapi-latest-version', 'asyncapi-unused-securityScheme']);

function load(name) {
  try {
    return require(path.join(DIR, 'node_modules', name));
  } catch {
    console.error(`asyncapi: no @asyncapi/parser ${VERSION} in ${DIR}; ./tests/run.sh installs it`);
    process.exit(69);
  }
}

const { Parser } = load('@asyncapi/parser');
const Ajv = load('ajv').default;
const addFormats = load('ajv-formats').default;

// Everything the parser has to say against a document, worst first.
async function judge(document) {
  const { diagnostics } = await new Parser().parse(JSON.stringify(document));
  const known = diagnostics.filter((one) => !ADVICE.has(String(one.code)));
  return known.sort((a, b) => a.severity - b.severity);
}

// Every example that does not fit its message's payload or headers.
function judgeExamples(document) {
  const ajv = new Ajv({ strict: false, allErrors: false });
  addFormats(ajv);
  // Numbers whose size JSON cannot say.
  for (const format of ['uint64', 'uint32', 'int32', 'double']) ajv.addFormat(format, true);
  const { components } = document;
  const faults = [];
  let count = 0;
  for (const [name, message] of Object.entries(components.messages)) {
    if (!message.examples) continue;
    const fits = (schema) => ajv.compile({ ...schema, components });
    const [payload, headers] = [fits(message.payload), fits(message.headers)];
    for (const example of message.examples) {
      count += 1;
      for (const [part, check] of [['payload', payload], ['headers', headers]]) {
        if (!check(example[part])) {
          faults.push(`${name} ${example.name}: ${part}: ${ajv.errorsText(check.errors)}`);
        }
      }
    }
  }
  return { count, faults };
}

// Changes of a right document that the parser must find.
const FAULTS = {
  'a channel that is not there': (d) => {
    Object.values(d.operations)[0].channel.$ref = '#/channels/nowhere';
  },
  'an address with a parameter nobody describes': (d) => {
    d.channels.events.address += '.{more}';
  },
  'a schema that is none': (d) => { d.components.schemas['bus.event'].type = 'thing'; },
};

// Changes of a right example that must be found.
const SPOILED = {
  'an example that lacks a member': (e) => { delete e.payload.data.number; },
  'an example whose event is of another shape': (e) => { e.payload.data.event.data = 'x'; },
  'an example of another type': (e) => { e.payload.type = 'dev.keywheel.bus.audit.v1'; },
  'an example without its signature': (e) => { delete e.headers['Keywheel-Signature']; },
};

async function main(file) {
  const text = fs.readFileSync(file, 'utf8');
  let failed = 0;
  const fail = (words) => { failed += 1; console.log(`asyncapi: ${words}`); };
  for (const one of await judge(JSON.parse(text))) {
    fail(`${one.code}: ${one.message} (at ${one.path.join('.')})`);
  }
  const examples = judgeExamples(JSON.parse(text));
  examples.faults.forEach(fail);
  for (const [name, spoil] of Object.entries(FAULTS)) {
    const document = JSON.parse(text);
    spoil(document);
    const errors = (await judge(document)).filter((one) => one.severity === ERROR);
    if (errors.length === 0) fail(`${name} was not found: this check proves nothing`);
  }
  for (const [name, spoil] of Object.entries(SPOILED)) {
    const document = JSON.parse(text);
    spoil(document.components.messages.event.examples[0]);
    if (judgeExamples(document).faults.length === 0) fail(`${name} was not found: this check proves nothing`);
  }
  const document = JSON.parse(text);
  const count = (of) => Object.keys(of).length;
  console.log(`asyncapi: ${count(document.channels)} channels, ${count(document.operations)} operations, `
    + `${count(document.components.messages)} messages, ${examples.count} examples; `
    + `${count(FAULTS) + count(SPOILED)} broken ones; ${failed} faults`);
  return failed === 0 ? 0 : 1;
}

main(process.argv[2] ?? 'schemas/generated/asyncapi.v1.json').then((code) => { process.exitCode = code; });
