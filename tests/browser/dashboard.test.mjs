// The dashboard against a real broker, in a real browser. Each name is a claim about what somebody sees.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Broker } from "./broker.mjs";
import { Watched, fingerprint, landed, launch } from "./page.mjs";

const EXACT = '{"total":999999996000000004,"price":1.10,"z":1,"a":"caf\\u00e9 \\"q\\""}';

let broker;
let browser;
let watched = [];
let clients = [];
let isExpected = () => false;

before(async () => {
  [broker, browser] = await Promise.all([Broker.start(), launch()]);
});

after(async () => {
  await browser?.close();
  await broker?.stop();
});

afterEach(async () => {
  const problems = watched.flatMap((one) => one.unexpected(isExpected));
  await Promise.all(watched.map((one) => one.context.close()));
  clients.forEach((client) => client.close());
  watched = [];
  clients = [];
  isExpected = () => false;
  assert.deepEqual(problems, [], "no error, no breach of the content policy, no request to another host");
});

async function open(hash = "", options = {}) {
  const one = await Watched.open(browser, `${broker.url}/${hash}`, options);
  watched.push(one);
  return one;
}

/** A client beside the page; it is closed when the test ends. */
async function beside() {
  const client = await broker.client();
  clients.push(client);
  return client;
}

/** Opens the page of a topic and waits until its records are followed. */
async function openTopic(name, options) {
  const one = await open(`#/topics/${name}`, options);
  await one.page.waitForSelector(".log", { state: "attached" });
  await one.page.waitForFunction(() => document.querySelector(".stage-note") === null);
  return one;
}

const rows = (page) => page.locator(".log tbody tr:not(.spacer)");
const number = (text) => Number((text ?? "0").replace(/[^0-9]/g, ""));

test("empty broker greets a newcomer, and the first record is published from the page", async () => {
  const one = await open();
  const { page } = one;
  await page.getByRole("heading", { name: "Nothing is pinned here yet" }).waitFor();
  const console = await page.locator(".snippet").first().innerText();
  assert.match(console, new RegExp(`new WebSocket\\("ws://${new URL(broker.url).host}/ws"\\)`));
  await one.shot("empty");
  await page.getByRole("button", { name: "Publish the first record" }).click();
  await rows(page).first().waitFor();
  assert.match(await rows(page).first().innerText(), /Hello, Callboard!/);
  assert.equal((await broker.api("/topics/hello")).status, 200);
  await one.shot("first-record");
});

test("snippet for the browser console works as it stands", async () => {
  const one = await open();
  await one.page.waitForSelector("table.topics");
  await one.page.getByText("Speak to this broker from elsewhere").click();
  const snippet = await one.page.locator(".snippet code").first().innerText();
  const seen = await one.page.evaluate((text) => new Promise((resolve) => {
    const heard = [];
    const original = console.log;
    console.log = (line) => {
      heard.push(line);
      if (!heard.some((each) => each.includes('"published"')) || !heard.some((each) => each.includes('"message"'))) return;
      console.log = original;
      resolve(heard);
    };
    const url = text.match(/ws:\/\/[^"]+/)[0];
    const frames = [...text.matchAll(/ws\.send\('(.*)'\)/g)].map((match) => match[1]);
    const ws = new WebSocket(url);
    ws.onmessage = (event) => console.log(event.data);
    ws.onopen = () => frames.forEach((frame) => ws.send(frame));
  }), snippet);
  assert.ok(seen.some((line) => line.includes('"payload":"Hi!"')));
});

test("created topic shows up, and a second one of its name is refused in place", async () => {
  const one = await open();
  const { page } = one;
  await page.getByRole("button", { name: "New topic" }).click();
  await page.getByLabel("Name").fill("shop.orders");
  await page.getByLabel("Partitions").fill("3");
  await page.locator(".choices").getByText("os", { exact: true }).click();
  await one.shot("new-topic");
  await page.getByRole("button", { name: "Create topic" }).click();
  await page.getByRole("heading", { name: "shop.orders" }).waitFor();
  await page.locator(".partitions tbody tr").nth(2).waitFor();
  assert.equal(await page.locator(".partitions tbody tr").count(), 3);
  const stored = await (await broker.api("/topics/shop.orders")).json();
  assert.equal(stored.config.durability, "os");
  await page.getByRole("link", { name: "Topics", exact: true }).first().click();
  await page.getByRole("link", { name: "shop.orders" }).waitFor();
  await page.getByRole("button", { name: "New topic" }).click();
  await page.getByLabel("Name").fill("shop.orders");
  isExpected = (problem) => problem.includes("409");
  await page.getByRole("button", { name: "Create topic" }).click();
  await page.getByText("A topic of this name is there already.").waitFor();
});

test("records from elsewhere appear in the table and move the picture", async () => {
  await broker.create("moves", { partitions: 3 });
  const one = await openTopic("moves");
  const { page } = one;
  const client = await beside();
  const still = await fingerprint(page);
  await client.publish("moves", Array.from({ length: 30 }, (_, at) => `"key":"k${at % 5}","payload":{"n":${at}}`));
  await page.waitForFunction(() => document.querySelector("#received").textContent.startsWith("30"));
  const first = await fingerprint(page);
  await page.waitForFunction(() => Number(document.querySelector("#flow").dataset.landed) > 0);
  await one.shot("moving");
  const second = await fingerprint(page);
  assert.notEqual(first, still);
  assert.notEqual(second, first);
  await page.waitForFunction(() => Number(document.querySelector("#flow").dataset.landed) === 30);
  assert.equal(await landed(page), 30, "every record was a dot, and no dot was made up");
  assert.ok((await rows(page).count()) > 10);
  assert.equal(await page.locator(".partitions tbody tr").count(), 3);
  await page.waitForFunction(() => [...document.querySelectorAll(".partitions tbody td:nth-child(4)")].reduce((sum, cell) => sum + Number(cell.textContent), 0) === 30);
});

test("pause holds the table, counts what is new, and resume shows it", async () => {
  await broker.create("held");
  const { page } = await openTopic("held");
  const client = await beside();
  await client.publish("held", ['"payload":"before"']);
  await page.getByText('"before"').waitFor();
  await page.locator("#pause").click();
  await client.publish("held", ['"payload":"after one"', '"payload":"after two"']);
  await page.getByRole("button", { name: "Resume · 2 new" }).waitFor();
  assert.equal(await rows(page).count(), 1);
  await page.locator("#pause").click();
  await page.getByText('"after two"').waitFor();
  assert.equal(await rows(page).count(), 3);
});

test("filter narrows by text and by partition, and keeps watching", async () => {
  await broker.create("sieve", { partitions: 2 });
  const { page } = await openTopic("sieve");
  const client = await beside();
  await client.publish("sieve", ['"partition":0,"key":"ann","payload":"red"', '"partition":1,"key":"bo","payload":"green"', '"partition":1,"key":"cy","payload":"red"']);
  await page.getByText('"green"').waitFor();
  await page.getByLabel("Filter by text").fill("RED");
  await page.getByText('"green"').waitFor({ state: "detached" });
  assert.equal(await rows(page).count(), 2);
  await page.getByLabel("Filter by partition").selectOption("1");
  await page.waitForFunction(() => document.querySelectorAll(".log tbody tr").length === 1);
  assert.match(await rows(page).first().innerText(), /cy/);
  await client.publish("sieve", ['"partition":1,"key":"dee","payload":"infrared"', '"partition":0,"payload":"red too"']);
  await page.getByText('"infrared"').waitFor();
  assert.equal(await rows(page).count(), 2);
});

test("opened record shows the very bytes that were published", async () => {
  await broker.create("exact");
  const one = await openTopic("exact");
  const { page } = one;
  const client = await beside();
  await client.publish("exact", [`"key":"c42","headers":{"source":"till 4"},"payload":${EXACT}`]);
  await rows(page).first().click();
  const payload = page.locator("#payload");
  await payload.waitFor();
  const pretty = await payload.innerText();
  assert.match(pretty, /"total": 999999996000000004,/);
  assert.match(pretty, /"price": 1\.10,/);
  assert.ok(pretty.includes('"caf\\u00e9 \\"q\\""'), "escapes stay as they were sent");
  assert.match(await page.locator("#opened-record").innerText(), /till 4/);
  assert.ok(page.url().endsWith("#/topics/exact/0/0"), "an opened record has an address");
  await one.shot("record");
  await page.getByRole("button", { name: "As sent", exact: true }).click();
  assert.equal(await payload.innerText(), EXACT);
  await page.keyboard.press("Escape");
  await page.locator("#opened-record").waitFor({ state: "detached" });
});

test("record published from the form goes out byte for byte and is answered with its durability", async () => {
  await broker.create("typed", { partitions: 2 });
  const { page } = await openTopic("typed");
  await page.locator("[name=key]").fill("c42");
  await page.locator("[name=payload]").fill('{"a": 999999996000000004');
  await page.locator("#payload-fault.bad").waitFor();
  assert.ok(await page.locator(".publish button.primary").isDisabled());
  await page.locator("[name=payload]").fill('{"b": 999999996000000004,\n "a": 1.10}');
  await page.getByText("Headers", { exact: true }).click();
  await page.locator("[name=headers]").fill("source: page\ntrace: 7:1");
  await page.locator("[name=payload]").press("Control+Enter");
  const reply = page.locator(".replies li").first();
  await reply.waitFor();
  assert.match(await reply.innerText(), /^p[01] @0/);
  assert.match(await reply.innerText(), /fsync/i);
  const partition = number((await reply.innerText()).slice(1, 2));
  const stored = await (await broker.api(`/topics/typed/partitions/${partition}/messages?offset=0`)).text();
  assert.ok(stored.includes('{"b": 999999996000000004,  "a": 1.10}'), stored);
  assert.ok(stored.includes('"trace":"7:1"'), stored);
});

test("looking back shows the log in its order, from an offset", async () => {
  await broker.create("past");
  const client = await beside();
  await client.publish("past", Array.from({ length: 250 }, (_, at) => `"payload":${at}`));
  const { page } = await openTopic("past");
  await page.getByRole("button", { name: "Look back into the log" }).click();
  await page.getByLabel("Offset", { exact: true }).fill("7");
  await page.getByRole("button", { name: "Read" }).click();
  await page.getByText("in the order of the log: 7 to 106").waitFor();
  assert.match(await rows(page).first().innerText(), /p0\s*7\s/);
  await page.getByRole("button", { name: "Newer" }).click();
  await page.getByText("107 to 206").waitFor();
  await page.getByRole("button", { name: "Back to live" }).click();
  await page.getByText("in the order of the log").waitFor({ state: "detached" });
});

test("address of a record opens it, and the one before it is a key away", async () => {
  const one = await open("#/topics/past/0/100");
  await one.page.getByRole("heading", { name: "Record 100" }).waitFor();
  assert.equal((await one.page.locator("#payload").innerText()).trim(), "100");
  await one.page.getByRole("button", { name: "The record before" }).click();
  await one.page.getByRole("heading", { name: "Record 99" }).waitFor();
});

test("what was seen and what was skipped add up to a flood, and the page goes on answering", async () => {
  await broker.create("flood", { partitions: 2, durability: "memory" });
  const one = await openTopic("flood");
  const { page } = one;
  const client = await beside();
  const total = 20000;
  const body = `"key":"k","payload":"${"x".repeat(100)}"`;
  await client.publish("flood", Array.from({ length: total - 1 }, () => body));
  await one.shot("flood");
  await page.getByLabel("Filter by text").fill("last");
  await client.publish("flood", ['"key":"k","payload":"the last"']);
  await page.getByText('"the last"').waitFor();
  await page.waitForFunction((expected) => {
    const count = (id) => Number((document.querySelector(id)?.textContent ?? "0").replace(/[^0-9]/g, ""));
    return count("#received") + count("#skipped") === expected;
  }, total);
});

test("sessions are listed with this page marked, and one can be disconnected", async () => {
  const client = await beside();
  const one = await open("#/sessions");
  const { page } = one;
  await page.locator("tr.mine").waitFor();
  const others = page.locator(".sessions tbody tr:not(.mine)");
  await others.first().waitFor();
  await one.shot("sessions");
  // Pages of earlier tests may still be on their way out.
  await page.waitForFunction(() => document.querySelectorAll(".sessions tbody tr").length === 2);
  await others.getByRole("button", { name: /Disconnect/ }).click();
  await page.locator("dialog[open] button.danger").click();
  assert.equal(await client.closed, 1008);
  await page.waitForFunction(() => document.querySelectorAll(".sessions tbody tr").length === 1);
});

test("topic is deleted only after a second question", async () => {
  await broker.create("doomed");
  const { page } = await open();
  await page.getByRole("button", { name: "Delete doomed" }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal((await broker.api("/topics/doomed")).status, 200);
  await page.getByRole("button", { name: "Delete doomed" }).click();
  await page.getByRole("button", { name: "Delete the topic" }).click();
  await page.locator("table.topics").getByRole("link", { name: "doomed" }).waitFor({ state: "detached" });
  assert.equal((await broker.api("/topics/doomed")).status, 404);
});

test("topic that is deleted and made again starts afresh, with every record once", async () => {
  await broker.create("phoenix", { partitions: 2 });
  const { page } = await openTopic("phoenix");
  const client = await beside();
  await client.publish("phoenix", ['"payload":"first life"']);
  await page.getByText('"first life"').waitFor();
  await broker.api("/topics/phoenix", { method: "DELETE" });
  await client.publish("phoenix", ['"payload":"second life"']);
  await page.getByText('"second life"').first().waitFor();
  await page.waitForFunction(() => document.querySelectorAll(".partitions tbody tr").length === 1);
  await client.publish("phoenix", ['"payload":"and on"']);
  await page.getByText('"and on"').first().waitFor();
  assert.equal(await rows(page).count(), 2);
});

test("looking at a topic that is not there does not make it", async () => {
  const { page } = await open("#/topics/never.made");
  await page.getByRole("heading", { name: "There is no such topic" }).waitFor();
  assert.equal((await broker.api("/topics/never.made")).status, 404);
});

test("phone has no sideways scroll on any view", async () => {
  const one = await open("", { viewport: { width: 360, height: 740 } });
  const { page } = one;
  for (const [hash, ready] of [["#/", "table.topics"], ["#/topics/moves", ".log tbody tr"], ["#/topics/exact/0/0", "#payload"], ["#/sessions", "tr.mine"]]) {
    await page.goto(`${broker.url}/${hash}`);
    await page.waitForSelector(ready);
    const [wide, visible] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= visible, `${hash} is ${wide} wide`);
    await one.shot(`phone-${hash.replace(/\W+/g, "-")}`);
  }
});

test("keyboard reaches everything that can be pressed", async () => {
  const { page } = await openTopic("moves");
  await rows(page).first().waitFor();
  await page.locator("#pause").click();
  await page.evaluate(() => document.activeElement.blur());
  const missed = await page.evaluate(() => {
    const all = [...document.querySelectorAll("a, button, input, select, textarea, summary")];
    window.unreached = new Set(all.filter((each) => each.checkVisibility() && !each.disabled));
    addEventListener("focusin", (event) => window.unreached.delete(event.target));
    return window.unreached.size;
  });
  assert.ok(missed > 15);
  for (let presses = 0; presses < missed + 15; presses += 1) await page.keyboard.press("Tab");
  assert.deepEqual(await page.evaluate(() => [...window.unreached].map((each) => each.outerHTML)), []);
});

test("keyboard alone opens records, changes views and shows its own help", async () => {
  const one = await openTopic("moves");
  const { page } = one;
  await rows(page).first().waitFor();
  await page.keyboard.press("Tab");
  await page.waitForFunction(() => document.activeElement.textContent === "Skip to the board");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.id === "main");
  await page.keyboard.press("j");
  await page.locator("#opened-record").waitFor();
  const opened = await page.locator("#record-title").innerText();
  await page.keyboard.press("j");
  await page.waitForFunction((title) => document.querySelector("#record-title").innerText !== title, opened);
  await page.keyboard.press("Escape");
  await page.locator("#opened-record").waitFor({ state: "detached" });
  await page.keyboard.press("?");
  await page.getByText("Pause or resume the table").waitFor();
  await one.shot("keyboard");
  await page.keyboard.press("Escape");
  await page.keyboard.press("g");
  await page.keyboard.press("s");
  await page.getByRole("heading", { name: "Sessions" }).waitFor();
});

test("dark and light follow the system, and the reader's choice stays", async () => {
  const background = (page) => page.evaluate(() => getComputedStyle(document.querySelector(".notice")).backgroundColor);
  const light = await open("#/topics/moves");
  const dark = await open("#/topics/moves", { colorScheme: "dark" });
  await Promise.all([light, dark].map((one) => rows(one.page).first().waitFor()));
  assert.notEqual(await background(light.page), await background(dark.page));
  await dark.shot("dark");
  await light.page.getByRole("button", { name: "Switch to dark theme" }).click();
  assert.equal(await background(light.page), await background(dark.page));
  await light.page.reload();
  await rows(light.page).first().waitFor();
  assert.equal(await background(light.page), await background(dark.page));
});

test("less motion, when asked for, leaves the picture still between its seconds", async () => {
  const { page } = await openTopic("moves", { reducedMotion: "reduce" });
  await page.getByText("one cell, one second").waitFor();
  const client = await beside();
  await client.publish("moves", ['"payload":1']);
  await page.waitForFunction(() => Number(document.querySelector("#flow").dataset.landed) === 1);
});

test("page comes with a policy that allows nothing from elsewhere and nothing inline", async () => {
  const answer = await fetch(`${broker.url}/`);
  const policy = answer.headers.get("content-security-policy");
  assert.match(policy, /default-src 'self'/);
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  assert.match(answer.headers.get("content-type"), /^text\/html/);
  assert.match((await fetch(`${broker.url}/app.js`)).headers.get("content-type"), /^text\/javascript/);
});

test("broker that restarts is waited for, and every record is shown once", async () => {
  await broker.create("returns");
  const one = await openTopic("returns");
  const { page } = one;
  isExpected = (problem) => /ERR_CONNECTION_REFUSED|WebSocket connection to|ERR_SOCKET|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(problem);
  const early = await beside();
  await early.publish("returns", ['"payload":"before the break"']);
  await page.getByText('"before the break"').waitFor();
  await broker.halt();
  await page.getByText("Reconnecting").waitFor();
  await one.shot("reconnecting");
  await broker.comeBack();
  const late = await beside();
  await late.publish("returns", ['"payload":"after the break"']);
  await page.waitForSelector(".link-open", { timeout: 15000 });
  await page.getByText('"after the break"').waitFor();
  assert.equal(await rows(page).count(), 2);
});
