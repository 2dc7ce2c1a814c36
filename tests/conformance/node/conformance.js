// Asks the gateway as users of OpenAI's client for Node do; prints a JSON object of outcomes.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const baseURL = process.argv[2];
const lane = process.env.LANE;
const options = { baseURL, maxRetries: 0, timeout: 60_000 };
const client = new OpenAI({ ...options, apiKey: `sk-all${lane}` });
const illTreated = new OpenAI({ ...options, apiKey: `sk-openai-errors${lane}` });
const chat = { model: "gpt-4o", messages: [{ role: "user", content: "what does the toll cost?" }] };
const parameters = {
  type: "object",
  properties: { carts: { type: "integer" }, road: { type: "string" } },
};
const tool = { type: "function", function: { name: "toll_of", parameters } };
const usage = { headers: { "x-demo-usage": "prompt=374,completion=44" } };

async function textOf(stream) {
  let text = "";
  for await (const event of stream) text += event.choices[0]?.delta.content ?? "";
  return text;
}

const checks = {
  async chat() {
    const { data, response, request_id } = await client.chat.completions
      .create(chat, usage)
      .withResponse();
    assert.match(data.choices[0].message.content, /^every toll/);
    assert.equal(data.usage.completion_tokens, 44);
    assert.equal(request_id, response.headers.get("x-request-id"));
    assert.ok(request_id);
  },
  async stream() {
    const whole = await client.chat.completions.create(chat);
    const stream = await client.chat.completions.create({ ...chat, stream: true });
    assert.equal(await textOf(stream), whole.choices[0].message.content);
  },
  async streamWithUsage() {
    const asked = { ...chat, stream: true, stream_options: { include_usage: true } };
    const used = [];
    for await (const event of await client.chat.completions.create(asked, usage))
      if (event.usage) used.push(event.usage.completion_tokens);
    assert.deepEqual(used, [44]);
  },
  async streamLeft() {
    const slow = { headers: { "x-demo-chunks": "500", "x-demo-chunk-delay-ms": "10" } };
    for await (const event of await client.chat.completions.create({ ...chat, stream: true }, slow)) {
      assert.equal(event.object, "chat.completion.chunk");
      break;
    }
    assert.ok((await client.chat.completions.create(chat)).choices);
  },
  async tools() {
    const asked = { ...chat, tools: [tool], tool_choice: "required" };
    const { choices } = await client.chat.completions.create(asked);
    const [call] = choices[0].message.tool_calls;
    assert.deepEqual(JSON.parse(call.function.arguments), { carts: 2, road: "north" });
    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  },
  async embeddings() {
    const asked = { model: "text-embedding-3-small", input: ["a", "b"], dimensions: 8 };
    const { data } = await client.embeddings.create(asked);
    assert.deepEqual(data.map((one) => one.embedding.length), [8, 8]);
  },
  async responses() {
    const asked = { model: "gpt-4o", input: "hello" };
    const whole = await client.responses.create(asked);
    const kinds = [];
    let text = "";
    for await (const event of await client.responses.create({ ...asked, stream: true })) {
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    assert.equal(text, whole.output_text);
    assert.equal(kinds.at(-1), "response.completed");
  },
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.ok(names.includes("gpt-4o"));
    assert.equal((await client.models.retrieve("gpt-4o")).id, "gpt-4o");
  },
  async files() {
    const content = Buffer.alloc(76_800, Buffer.from([0, 255, 13, 10, 45, 45]));
    const file = await client.files.create({
      file: await toFile(content, "toll.bin"),
      purpose: "user_data",
    });
    assert.equal(file.bytes, content.length);
    const answer = await client.files.content(file.id);
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(content));
    assert.ok((await client.files.delete(file.id)).deleted);
  },
  async transcription() {
    const file = await toFile(Buffer.alloc(40_000), "said.wav");
    const { text } = await client.audio.transcriptions.create({ model: "whisper-1", file });
    assert.equal(text, "every toll is counted once");
  },
  async speech() {
    const asked = { model: "tts-1", voice: "alloy", input: "hello" };
    const sound = Buffer.from(await (await client.audio.speech.create(asked)).arrayBuffer());
    assert.equal(sound.subarray(0, 3).toString(), "ID3");
    assert.equal(sound.length, 4 + 64 * 256);
  },
  async unknownKey() {
    const nobody = new OpenAI({ ...options, apiKey: "sk-nobody" });
    await assert.rejects(nobody.chat.completions.create(chat), OpenAI.AuthenticationError);
  },
  async statuses() {
    for (const [status, raised] of [
      [400, OpenAI.BadRequestError],
      [401, OpenAI.AuthenticationError],
      [403, OpenAI.PermissionDeniedError],
      [404, OpenAI.NotFoundError],
      [429, OpenAI.RateLimitError],
      [500, OpenAI.InternalServerError],
    ]) {
      const asked = { headers: { "x-demo-status": String(status) } };
      await assert.rejects(illTreated.chat.completions.create(chat, asked), raised);
    }
  },
  async brokenStream() {
    const asked = { headers: { "x-demo-cut": "3", "x-demo-chunks": "8" } };
    const stream = await illTreated.chat.completions.create({ ...chat, stream: true }, asked);
    await assert.rejects(textOf(stream));
  },
  async brokenBeforeTheHead() {
    const asked = { headers: { "x-demo-cut": "head" } };
    await assert.rejects(
      illTreated.chat.completions.create(chat, asked),
      (error) => error instanceof OpenAI.InternalServerError && error.status === 502,
    );
  },
  async timeout() {
    const asked = { timeout: 300, headers: { "x-demo-latency-ms": "60000" } };
    await assert.rejects(
      illTreated.chat.completions.create(chat, asked),
      OpenAI.APIConnectionTimeoutError,
    );
  },
};

const outcomes = {};
for (const [name, check] of Object.entries(checks))
  outcomes[name] = await check().then(() => "ok", (error) => String(error.stack ?? error));
process.stdout.write(JSON.stringify(outcomes));
