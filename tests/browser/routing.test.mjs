// Exchanges, bindings and the dry run as the dashboard shows them. Each name is a claim about what somebody sees.

import assert from "node:assert/strict";
import { test } from "node:test";
import { stage } from "./stage.mjs";

const at = stage();

const declare = (name, type, alternate) => at.broker.post("/exchanges", { name, type, alternate });
const bind = (exchange, binding) => at.broker.post(`/exchanges/${exchange}/bindings`, binding);

/** What lights up: names of topics, and `from > to` of wires. */
const lit = (page) => page.evaluate(() => ({
  topics: [...document.querySelectorAll(".box-topic.lit")].map((one) => one.dataset.topic).sort(),
  wires: [...document.querySelectorAll(".wire.lit")].map((one) => `${one.dataset.from} > ${one.dataset.to}`).sort(),
}));

/** Types a key to try, and waits for the answer to it. */
async function tryKey(page, key, says) {
  await page.getByLabel("Routing key to try").fill(key);
  await page.locator("#reached").getByText(says).waitFor();
}

const wire = (page, from, to) => page.locator(`.wire[data-from="exchange ${from}"][data-to="${to}"]`);

test("an exchange is made, bound and tried from the page", async () => {
  const one = await at.open("#/routing");
  const { page } = one;
  await page.getByRole("button", { name: "Make an exchange" }).click();
  await page.getByLabel("Name").fill("readings");
  await one.shot("routing-new");
  await page.getByRole("button", { name: "Create exchange" }).click();
  await page.getByText("Bound to nothing yet.").waitFor();
  for (const [key, topic] of [["plant.#", "plant"], ["plant.boiler.*", "boilers"], ["shop.*", "shop"]]) {
    await page.locator(".bind-form [name=routing_key]").fill(key);
    await page.locator(".bind-form [name=to]").fill(topic);
    await page.getByRole("button", { name: "Bind", exact: true }).click();
    await page.locator(".bindings tbody tr").filter({ hasText: key }).waitFor();
    await wire(page, "readings", `topic ${topic}`).waitFor({ state: "attached" });
  }
  const { bindings } = await at.broker.read("/exchanges/readings/bindings");
  assert.deepEqual(bindings.map((each) => [each.topic, each.routing_key]).sort(), [["boilers", "plant.boiler.*"], ["plant", "plant.#"], ["shop", "shop.*"]]);

  await tryKey(page, "plant.boiler.temp", "reaches 2 topics");
  await page.waitForFunction(() => document.querySelectorAll(".wire.lit").length === 2);
  assert.deepEqual(await lit(page), { topics: ["boilers", "plant"], wires: ["exchange readings > topic boilers", "exchange readings > topic plant"] });
  assert.deepEqual(await page.locator("#reached li").allInnerTexts(), ["boilers", "plant"]);
  await one.shot("routing-dry-run");
  await tryKey(page, "moon", "reaches nothing");
  assert.deepEqual((await lit(page)).topics, []);
  await page.getByRole("button", { name: "Clear" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".wire.dim").length === 0);
  assert.equal((await at.broker.read("/topics/plant")).partitions[0].next_offset, 0, "a dry run publishes nothing");
});

test("undone binding takes its wire away", async () => {
  await declare("undo", "direct");
  await bind("undo", { topic: "kept", routing_key: "a" });
  await bind("undo", { topic: "dropped", routing_key: "b" });
  const { page } = await at.open("#/routing/undo");
  await wire(page, "undo", "topic dropped").waitFor({ state: "attached" });
  await page.getByRole("button", { name: "Unbind dropped from b" }).click();
  await wire(page, "undo", "topic dropped").waitFor({ state: "detached" });
  assert.equal(await wire(page, "undo", "topic kept").count(), 1);
  assert.deepEqual((await at.broker.read("/exchanges/undo/bindings")).bindings.map((each) => each.topic), ["kept"]);
});

test("wires are alive while something goes through them, and only those", async () => {
  await declare("busy", "direct");
  await bind("busy", { topic: "busy.loud", routing_key: "loud" });
  await bind("busy", { topic: "busy.still", routing_key: "still" });
  const one = await at.open("#/routing/busy");
  const { page } = one;
  await wire(page, "busy", "topic busy.loud").waitFor({ state: "attached" });
  const client = await at.beside();
  let isOver = false;
  const publishing = (async () => {
    while (!isOver) await client.ask({ type: "publish", exchange: "busy", routing_key: "loud", payload: 1 });
  })();
  const pulse = '.wire[data-to="topic busy.loud"] .wire-pulse';
  await page.waitForSelector(pulse, { state: "attached" });
  const offset = () => page.evaluate((path) => getComputedStyle(document.querySelector(path)).strokeDashoffset, pulse);
  const before = await offset();
  await page.waitForFunction(([path, was]) => getComputedStyle(document.querySelector(path)).strokeDashoffset !== was, [pulse, before]);
  assert.equal(await page.locator('.wire[data-to="topic busy.still"].level-0').count(), 1);
  await page.waitForFunction(() => /[1-9]/.test(document.querySelector('[data-exchange="busy"] .figure')?.textContent ?? ""));
  await one.shot("routing-busy");
  isOver = true;
  await publishing;
  await page.waitForSelector('.wire[data-to="topic busy.loud"].level-0', { state: "attached", timeout: 30000 });
});

test("unroutable publish is shown with its key and its sender, and counted at its exchange", async () => {
  await declare("picky", "direct");
  await bind("picky", { topic: "picky.eu", routing_key: "eu" });
  const one = await at.open("#/routing/picky");
  const { page } = one;
  const client = await at.beside();
  const reply = await client.ask({ type: "publish", exchange: "picky", routing_key: "asia", payload: 1 });
  assert.equal(reply.code, "unroutable");
  const row = page.locator(".unroutable tbody tr").filter({ hasText: "asia" });
  await row.waitFor();
  assert.match(await row.innerText(), /picky/);
  const { unroutable: [newest] } = await at.broker.read("/unroutable");
  assert.ok((await row.innerText()).includes(newest.session.slice(-6)), await row.innerText());
  await page.locator('[data-exchange="picky"]').getByText("1 unroutable").waitFor();
  await one.shot("routing-unroutable");
});

test("what nothing matches goes to the alternate, and the dry run says so", async () => {
  await declare("lost", "fanout");
  await bind("lost", { topic: "lost-and-found", routing_key: "" });
  await declare("strict", "direct", "lost");
  await bind("strict", { topic: "strict.eu", routing_key: "eu" });
  const { page } = await at.open("#/routing/strict");
  await tryKey(page, "asia", "because nothing matched");
  await page.waitForFunction(() => document.querySelectorAll(".wire.lit").length === 2);
  assert.deepEqual(await lit(page), { topics: ["lost-and-found"], wires: ["exchange lost > topic lost-and-found", "exchange strict > exchange lost"] });
  await tryKey(page, "eu", "reaches 1 topic");
  await page.waitForFunction(() => document.querySelectorAll(".wire.lit").length === 1);
  assert.deepEqual((await lit(page)).topics, ["strict.eu"]);
});

test("exchange is bound to an exchange, and a circle is refused in place", async () => {
  await declare("outer", "topic");
  await declare("inner", "fanout");
  const { page } = await at.open("#/routing/outer");
  const bindTo = async (name) => {
    await page.locator(".bind-form [name=kind]").selectOption("exchange");
    await page.locator(".bind-form select[name=to]").selectOption(name);
    await page.getByRole("button", { name: "Bind", exact: true }).click();
  };
  await page.locator(".bind-form [name=routing_key]").fill("a.#");
  await bindTo("inner");
  await wire(page, "outer", "exchange inner").waitFor({ state: "attached" });
  await page.locator('[data-exchange="inner"]').click();
  await page.getByRole("heading", { name: "inner", exact: true }).waitFor();
  at.expect((problem) => /40[09]/.test(problem));
  await bindTo("outer");
  await page.locator(".bind-form .trouble").waitFor();
  assert.equal((await at.broker.read("/exchanges/inner/bindings")).bindings.length, 0);
});

test("exchange is chosen by keyboard, and deleted only when asked twice", async () => {
  await declare("doomed", "direct");
  await bind("doomed", { topic: "survivor", routing_key: "x" });
  const { page } = await at.open("#/routing");
  const box = page.locator('[data-exchange="doomed"]');
  await box.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "doomed", exact: true }).waitFor();
  assert.equal(await box.getAttribute("aria-pressed"), "true");
  await page.getByRole("button", { name: "Delete doomed" }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal((await at.broker.api("/exchanges/doomed")).status, 200);
  await page.getByRole("button", { name: "Delete doomed" }).click();
  await page.getByRole("button", { name: "Delete the exchange" }).click();
  await box.waitFor({ state: "detached" });
  assert.equal((await at.broker.api("/exchanges/doomed")).status, 404);
  assert.equal((await at.broker.api("/topics/survivor")).status, 200);
});

test("record goes through an exchange from the slip of a topic, and the reply names every topic", async () => {
  await declare("both", "fanout");
  await bind("both", { topic: "both.a", routing_key: "" });
  await bind("both", { topic: "both.b", routing_key: "" });
  const { page } = await at.open("#/topics/both.a");
  await page.locator(".publish [name=exchange]").selectOption("both");
  await page.locator(".publish [name=routing_key]").fill("any.key");
  await page.locator("#publish-payload").fill('{"n":999999996000000004}');
  await page.locator(".publish button.primary").click();
  await page.locator(".replies li").first().waitFor();
  assert.match(await page.locator(".replies li").first().innerText(), /both\.a p0 @0[\s\S]*both\.b p0 @0/);
  await page.locator(".log tbody").getByText('{"n":999999996000000004}').waitFor();
  for (const topic of ["both.a", "both.b"]) assert.equal((await at.broker.read(`/topics/${topic}`)).partitions[0].next_offset, 1);
});

test("sixty bindings are drawn without overlapping, and fit the window and a telephone", async () => {
  await declare("wide", "topic");
  for (let number = 0; number < 48; number += 1) await bind("wide", { topic: `wide.line-${number}`, routing_key: `line-${number}.#` });
  for (let number = 0; number < 12; number += 1) await bind("wide", { topic: "wide.all", routing_key: `part-${number}.*` });
  const one = await at.open("#/routing/wide");
  const { page } = one;
  await page.locator('[data-topic="wide.line-47"]').waitFor();
  const overlaps = await page.evaluate(() => {
    const boxes = [...document.querySelectorAll(".box")].map((each) => each.getBoundingClientRect());
    return boxes.flatMap((box, index) => boxes.slice(index + 1).filter((other) => box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom)).length;
  });
  assert.equal(overlaps, 0);
  assert.equal(await page.locator('.wire[data-from="exchange wide"]').count(), 49);
  assert.equal(await page.locator(".wire-label").filter({ hasText: "12 keys" }).count(), 1);
  await one.shot("routing-wide");
  const phone = await at.open("#/routing/wide", { context: { viewport: { width: 390, height: 844 }, colorScheme: "dark" } });
  await phone.page.locator('[data-topic="wide.line-47"]').waitFor({ state: "attached" });
  assert.ok(await phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page itself is not scrolled sideways");
  await phone.shot("routing-phone");
});

test("who wants no motion gets none", async () => {
  await declare("calm", "fanout");
  await bind("calm", { topic: "calm.topic", routing_key: "" });
  const { page } = await at.open("#/routing/calm", { context: { reducedMotion: "reduce" } });
  await tryKey(page, "x", "reaches 1 topic");
  await page.waitForSelector(".wire.lit .wire-pulse", { state: "attached" });
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".wire.lit .wire-pulse")).animationName), "none");
});
