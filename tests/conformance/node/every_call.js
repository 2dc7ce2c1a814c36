// Makes every call that OpenAI's client for Node has, found in the client itself, with and without
// the gateway; prints a JSON object of outcomes, "ok" where both came to the same.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [, , throughURL, recorder, apiKey] = process.argv;
const lane = process.env.LANE;
const content = Buffer.from(Array.from({ length: 2048 }, (_, index) => index % 256));
const file = await toFile(content, "tölle.bin", { type: "application/octet-stream" });
// Of calls that want something else than a model and a text.
const forms = {
  "files.create": { file, purpose: "user_data" },
  "images.createVariation": { image: file },
  "images.edit": { image: file, prompt: "é", model: "m-1" },
  "audio.transcriptions.create": { file, model: "m-1" },
  "audio.translations.create": { file, model: "m-1" },
  "uploads.parts.create": { data: file },
  "containers.files.create": { file },
  "skills.create": { files: [file] },
  "skills.versions.create": { files: [file] },
  "videos.create": { prompt: "é", input_reference: file },
  "videos.createCharacter": { name: "é", video: file },
  "videos.edit": { prompt: "é", video: file },
  "videos.extend": { prompt: "é", seconds: "4", video: file },
  "vectorStores.fileBatches.uploadAndPoll": { files: [file] },
  "beta.threads.runs.submitToolOutputsStream": { thread_id: "thread-1", tool_outputs: [] },
};
// They compute something here, or need functions of the user's.
const notOneCall = /^webhooks\.|\.runTools$/;
// What the two ways cannot have in common.
const ofTheWay = new Set(
  ("host connection accept-encoding content-length transfer-encoding authorization " +
    "idempotency-key user-agent x-call").split(" "),
);

function clientOf(baseURL, key, call) {
  const defaultHeaders = { "x-call": call };
  const options = { baseURL, apiKey: key, adminAPIKey: key, maxRetries: 0, timeout: 60_000 };
  return new OpenAI({ ...options, defaultHeaders });
}

function* methodsOf(resource, client, path = "") {
  for (const [name, inner] of Object.entries(resource))
    if (!name.startsWith("_") && inner?._client === client)
      yield* methodsOf(inner, client, `${path}${name}.`);
  for (const name of path ? Object.getOwnPropertyNames(Object.getPrototypeOf(resource)) : [])
    if (name !== "constructor" && !name.startsWith("_") && typeof resource[name] === "function")
      yield [path + name, resource[name].toString()];
}

// Identifiers are there for whoever asks for them by name; what is sent is `model` and the like.
function bodyOf(name, isStreamed) {
  const common = { model: "m-1", messages: [{ role: "user", content: "é\u2028" }], input: "é" };
  const body = { ...(forms[name] ?? common), ...(isStreamed ? { stream: true } : {}) };
  const isId = (key) => typeof key === "string" && /_id$|_checkpoint$/.test(key);
  return new Proxy(body, { get: (own, key) => own[key] ?? (isId(key) ? `${key}-1` : undefined) });
}

function argumentsOf(name, source, isStreamed) {
  const parameters = source.slice(source.indexOf("(") + 1).split(/\)\s*\{/)[0];
  const named = parameters.replace(/\{[^}]*\}( = \{\})?/, "body").split(",");
  const values = named.map((one) => one.trim().split(" ")[0]);
  return values.map((one) => {
    if (one === "options") return undefined;
    if (one === "file") return file;
    return /^(body|params|query)$/.test(one) ? bodyOf(name, isStreamed) : `${one}-1`;
  });
}

async function shown(result) {
  const value = await result;
  if (value instanceof Response) return Buffer.from(await value.arrayBuffer()).toString("base64");
  if (!value?.[Symbol.asyncIterator]) return value;
  const seen = [];
  for await (const one of value) seen.push(one);
  return seen;
}

async function heard(call) {
  const requests = await (await fetch(`${recorder}/heard/${call}`)).json();
  return requests.map(({ method, target, headers, body }) => {
    const [, boundary] = /boundary=(\S+)/.exec(Object.fromEntries(headers)["content-type"]) ?? [];
    const plain = (text) => (boundary ? text.replaceAll(boundary, "BOUNDARY") : text);
    const credentials = headers.filter(([name]) => name === "authorization").map(([, one]) => one);
    const kept = headers.filter(([name]) => !ofTheWay.has(name));
    const sent = plain(Buffer.from(body, "base64").toString("latin1"));
    return { method, target, headers: plain(JSON.stringify(kept)), body: sent, credentials };
  });
}

async function outcomeOf(baseURL, key, name, source, isStreamed) {
  const call = `node-${key}-${lane}-${new URL(throughURL).pathname}-${name}-${isStreamed}`;
  const at = encodeURIComponent(call);
  const path = name.split(".");
  const method = path.pop();
  const resource = path.reduce((one, inner) => one[inner], clientOf(baseURL, key, at));
  const result = await shown(resource[method](...argumentsOf(name, source, isStreamed)));
  const requests = await heard(at);
  assert.notEqual(requests.length, 0, "the provider has heard nothing");
  const credentials = [...new Set(requests.flatMap((request) => request.credentials))];
  for (const request of requests) {
    delete request.credentials;
    // Of a stream of chat the gateway asks for the usage, which the client is then not told.
    if (request.target.endsWith("/completions"))
      request.body = request.body.replace('"stream_options":{"include_usage":true},', "");
  }
  return { result: JSON.parse(JSON.stringify(result ?? null)), requests, credentials };
}

async function compared(name, source, isStreamed) {
  const through = await outcomeOf(throughURL, apiKey, name, source, isStreamed);
  const direct = await outcomeOf(`${recorder}/v1`, "sk-user", name, source, isStreamed);
  assert.deepEqual(through.result, direct.result);
  assert.deepEqual(through.requests, direct.requests);
  assert.deepEqual(through.credentials, ["Bearer sk-of-the-provider"]);
}

const outcomes = {};
const listedHere = new URL(throughURL).pathname === "/v1" ? /^models\.(list|retrieve)$/ : /^$/;
const client = clientOf(throughURL, apiKey, "");
for (const [name, source] of methodsOf(client, client)) {
  if (notOneCall.test(name) || listedHere.test(name)) continue;
  const streams = /stream: (body|params|query)\??\.stream/.test(source) ? [false, true] : [false];
  for (const isStreamed of streams) {
    const check = name.startsWith("admin.")
      ? assert.rejects(
          outcomeOf(throughURL, apiKey, name, source, isStreamed),
          OpenAI.PermissionDeniedError,
        )
      : compared(name, source, isStreamed);
    outcomes[`${name}${isStreamed ? " streamed" : ""}`] = await check.then(
      () => "ok",
      (error) => String(error.stack ?? error).slice(0, 2_000),
    );
  }
}
process.stdout.write(JSON.stringify(outcomes));
