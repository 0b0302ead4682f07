// Records that are due later, and events as they happen, as the dashboard shows them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { stage } from "./stage.mjs";

const at = stage();

/** Opens the page of a topic and waits until its records are followed. */
async function openTopic(name) {
  const one = await at.open(`#/topics/${name}`);
  await one.page.waitForSelector(".log", { state: "attached" });
  await one.page.waitForFunction(() => document.querySelector(".stage-note") === null);
  return one;
}

const rows = (page) => page.locator(".scheduled tbody tr");

test("record that is delayed counts down, and comes when it is due with its number untouched", async () => {
  await at.broker.create("later");
  const one = await openTopic("later");
  const { page } = one;
  await page.locator(".publish [name=when]").selectOption("after");
  await page.locator(".publish [name=amount]").fill("4");
  await page.locator("#publish-payload").fill('{"n":999999996000000004,"price":1.10}');
  await page.getByRole("button", { name: "Schedule", exact: true }).click();
  await page.locator(".replies li").getByText("due").waitFor();
  await rows(page).first().waitFor();
  assert.match(await rows(page).first().innerText(), /\{"n":999999996000000004,"price":1\.10\}/);
  const left = () => page.locator(".scheduled .due").innerText();
  const first = await left();
  await page.waitForFunction((was) => {
    const now = document.querySelector(".scheduled .due")?.textContent;
    return now === undefined || Number.parseFloat(now) < Number.parseFloat(was) || now === "now";
  }, first);
  await one.shot("scheduled");
  assert.equal(await page.locator(".log tbody tr:not(.spacer)").count(), 0, "it is not there before its time");
  const { scheduled: [{ deliver_at: due }] } = await at.broker.read("/topics/later/scheduled");
  await page.locator(".log tbody tr:not(.spacer)").first().waitFor();
  const { messages: [record] } = await at.broker.read("/topics/later/partitions/0/messages?offset=0");
  assert.ok(record.timestamp >= due && record.timestamp < due + 2000, `${record.timestamp} for ${due}`);
  await page.getByText("Everything that was due has been delivered.").waitFor();
});

test("scheduled records stand in the order in which they are due, and one is called off", async () => {
  await at.broker.create("planned");
  const client = await at.beside();
  for (const [hours, name] of [[3, "third"], [1, "first"], [2, "second"]]) {
    const reply = await client.ask({ type: "publish", topic: "planned", delay_ms: hours * 3600000, payload: name });
    assert.ok(reply.scheduled, JSON.stringify(reply));
  }
  const { page } = await openTopic("planned");
  await page.locator("#scheduled-sum").getByText("3").waitFor();
  const payloads = () => page.locator('.scheduled [data-label="Payload"]').allInnerTexts();
  assert.deepEqual(await payloads(), ['"first"', '"second"', '"third"']);
  await rows(page).filter({ hasText: "second" }).getByRole("button", { name: "Call off" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".scheduled tbody tr").length === 2);
  assert.deepEqual(await payloads(), ['"first"', '"third"']);
  assert.equal((await at.broker.read("/topics/planned/scheduled")).total, 2);
});

test("record is given a date and a time", async () => {
  await at.broker.create("dated");
  const { page } = await openTopic("dated");
  await page.locator(".publish [name=when]").selectOption("at");
  await page.locator(".publish [name=at]").fill("2031-05-06T07:08:09");
  await page.getByRole("button", { name: "Schedule", exact: true }).click();
  await rows(page).first().waitFor();
  const asked = await page.evaluate(() => new Date("2031-05-06T07:08:09").getTime());
  const { scheduled: [one] } = await at.broker.read("/topics/dated/scheduled");
  assert.equal(one.deliver_at, asked);
  assert.match(await rows(page).first().innerText(), /2031-05-06 07:08/);
});

const events = (page) => page.locator("#events li");

test("events come as they happen, in words and with links", async () => {
  const one = await at.open("#/events");
  const { page } = one;
  await at.broker.create("noted");
  await events(page).filter({ hasText: "Topic noted was made" }).waitFor();
  await at.broker.post("/exchanges", { name: "desk", type: "topic" });
  await at.broker.post("/exchanges/desk/bindings", { topic: "noted", routing_key: "a.#" });
  await events(page).filter({ hasText: "desk now leads to noted by a.#" }).waitFor();
  const client = await at.beside();
  const reply = await client.ask({ type: "subscribe", topic: "noted", group: "crew", mode: "shared", member: "worker-1" });
  assert.equal(reply.type, "subscribed", JSON.stringify(reply));
  await events(page).filter({ hasText: "worker-1 joined crew of noted" }).waitFor();
  await one.shot("events");
  client.close();
  await events(page).filter({ hasText: "went" }).first().waitFor();
  await page.getByLabel("Show").selectOption("topics");
  await page.waitForFunction(() => [...document.querySelectorAll("#events li")].every((each) => each.dataset.event.startsWith("topic_")));
  await events(page).filter({ hasText: "Topic noted was made" }).getByRole("link", { name: "noted" }).click();
  await page.getByRole("heading", { name: "noted" }).waitFor();
});

test("late comer sees what happened before, and the overview tells the newest", async () => {
  await at.broker.create("before");
  const { page } = await at.open("#/events");
  await events(page).filter({ hasText: "Topic before was made" }).waitFor();
  const overview = await at.open();
  await overview.page.locator("#lately li").filter({ hasText: "Topic before was made" }).waitFor();
  const internal = overview.page.locator("table.topics tbody tr").filter({ hasText: "$events" });
  await internal.getByText("the broker's own").waitFor();
  assert.equal(await internal.getByRole("button").count(), 0, "the broker's own topic cannot be deleted");
});
