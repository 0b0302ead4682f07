// Webhooks as the dashboard shows them, called by a real broker at a real endpoint.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { Broker } from "./broker.mjs";
import { stage } from "./stage.mjs";

const at = stage("--webhook-allow-private");
const endpoints = [];

after(() => endpoints.forEach((one) => one.close()));

/** An endpoint that remembers its calls and answers as `answer` says at that moment. */
async function endpoint(status = 204) {
  const calls = [];
  const waiting = [];
  const one = { calls, status };
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    response.writeHead(one.status).end();
    calls.push({ headers: request.headers, body });
    waiting.splice(0).forEach((check) => check());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  endpoints.push({ close: () => server.closeAllConnections() ?? server.close() });
  one.url = `http://127.0.0.1:${server.address().port}/hook`;
  /** Waits until `count` calls have come. */
  one.until = async (count) => {
    while (calls.length < count) await new Promise((resolve) => waiting.push(resolve));
    return calls;
  };
  return one;
}

const publish = (topic, payload) => at.broker.post(`/topics/${topic}/messages`, { payload }, 200);

/** The signature of a call as Standard Webhooks has it, made from the secret that the page showed. */
function signatureOf({ headers, body }, secret) {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  return `v1,${createHmac("sha256", key).update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`).digest("base64")}`;
}

async function create(page, { url, topic, group = "push" }) {
  await page.getByRole("button", { name: "New webhook" }).click();
  await page.getByLabel("URL").fill(url);
  await page.locator(".create [name=topic]").fill(topic);
  await page.locator(".create [name=group]").fill(group);
  await page.getByRole("button", { name: "Create webhook" }).click();
}

test("webhook is made from the page, its secret is shown once, and it signs the calls", async () => {
  const receiver = await endpoint();
  const one = await at.open("#/webhooks");
  const { page } = one;
  await page.getByText("No endpoint is called yet.").waitFor();
  await create(page, { url: receiver.url, topic: "hooked" });
  const secret = await page.locator("#secret").innerText();
  assert.match(secret, /^whsec_[A-Za-z0-9+/]+=*$/);
  await one.shot("webhook-secret");
  await publish("hooked", { total: 12 });
  const [call] = await receiver.until(1);
  assert.equal(call.headers["webhook-signature"], signatureOf(call, secret));
  assert.deepEqual(JSON.parse(call.body).payload, { total: 12 });
  const row = page.locator(".webhooks tbody tr").filter({ hasText: receiver.url });
  await row.locator(".peg").waitFor();
  await page.waitForFunction(() => document.querySelector('.webhooks [data-label="Taken"]').textContent === "1");
  await page.getByRole("button", { name: "I have it" }).click();
  await page.reload();
  await row.waitFor();
  assert.ok(!(await page.content()).includes(secret), "the secret is not shown again");
  assert.ok(!JSON.stringify(await at.broker.read("/webhooks")).includes(secret));
  await one.shot("webhooks");
  await page.getByRole("link", { name: receiver.url }).click();
  await page.getByRole("heading", { name: "Last answers" }).waitFor();
  const answers = page.locator(".answers tbody tr");
  await answers.first().waitFor();
  assert.match(await answers.first().innerText(), /204/);
  await answers.first().getByRole("link").click();
  await page.locator("#payload").getByText("12").waitFor();
});

test("endpoint that is gone is disabled with the reason, and goes on when it is enabled", async () => {
  const receiver = await endpoint(410);
  const made = await at.broker.post("/webhooks", { topic: "leaving", group: "push", url: receiver.url });
  const one = await at.open("#/webhooks");
  const { page } = one;
  const row = page.locator(`[data-webhook="${made.id}"]`);
  await row.getByText("active").waitFor();
  await publish("leaving", 1);
  await receiver.until(1);
  await row.getByText("disabled").waitFor();
  await row.getByText("410 Gone").waitFor();
  await one.shot("webhooks-disabled");
  await row.getByRole("link", { name: receiver.url }).click();
  await page.locator("#disabled-reason").getByText("410 Gone").waitFor();
  receiver.status = 200;
  await page.getByRole("button", { name: "Enable", exact: true }).click();
  await receiver.until(2);
  await page.locator('.work-of-hook [data-state="active"]').waitFor();
  await page.waitForFunction(() => document.querySelector("#succeeded").textContent === "1");
  await one.shot("webhook");
});

test("failures are counted and shown with their status, and a webhook is switched off by hand", async () => {
  const receiver = await endpoint(503);
  await at.broker.create("failing", { retry_backoff_ms: 50, retry_backoff_ms_max: 50, attempts_max: 2 });
  const made = await at.broker.post("/webhooks", { topic: "failing", group: "push", url: receiver.url });
  const { page } = await at.open(`#/webhooks/${made.id}`);
  await page.getByText("It has not been called yet.").waitFor();
  await publish("failing", 1);
  await receiver.until(2);
  await page.waitForFunction(() => Number(document.querySelector("#failed").textContent) >= 2);
  assert.match(await page.locator(".answers tbody").innerText(), /503/);
  await page.getByRole("button", { name: "Disable", exact: true }).click();
  await page.locator('.work-of-hook [data-state="disabled"]').waitFor();
  assert.equal((await at.broker.read(`/webhooks/${made.id}`)).state, "disabled");
});

test("webhook is deleted only when asked twice", async () => {
  const made = await at.broker.post("/webhooks", { topic: "deleting", group: "push", url: "http://127.0.0.1:9/" });
  const { page } = await at.open(`#/webhooks/${made.id}`);
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal((await at.broker.api(`/webhooks/${made.id}`)).status, 200);
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Delete the webhook" }).click();
  await page.getByRole("heading", { name: "Webhooks" }).waitFor();
  assert.equal((await at.broker.api(`/webhooks/${made.id}`)).status, 404);
});

test("private address is refused in place by a broker that does not allow it", async (context) => {
  const strict = await Broker.start();
  context.after(() => strict.stop());
  const { page } = await at.open("#/webhooks", { broker: strict });
  at.expect((problem) => problem.includes("403"));
  await create(page, { url: "not an address", topic: "refused" });
  await page.getByText("This is no address").waitFor();
  await page.getByLabel("URL").fill("http://127.0.0.1:9/hook");
  await page.getByRole("button", { name: "Create webhook" }).click();
  await page.locator(".create .trouble code").getByText("forbidden").waitFor();
  assert.deepEqual((await strict.read("/webhooks")).webhooks, []);
});
