// Groups, joined by real tabs, as the dashboard shows them. Each name is a claim about what somebody sees.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { Broker } from "./broker.mjs";
import { Member } from "./member.mjs";
import { Watched, launch } from "./page.mjs";

let broker;
let browser;
let watched = [];
let tabs;
let isExpected = () => false;

before(async () => {
  [broker, browser] = await Promise.all([Broker.start(), launch()]);
});

// A window of their own for the tabs that are members: a page behind another one draws slowly.
beforeEach(async () => {
  tabs = await browser.newContext();
});

after(async () => {
  await browser?.close();
  await broker?.stop();
});

afterEach(async () => {
  const problems = watched.flatMap((one) => one.unexpected(isExpected));
  await Promise.all([tabs, ...watched.map((one) => one.context)].map((each) => each.close()));
  watched = [];
  isExpected = () => false;
  assert.deepEqual(problems, [], "no error, no breach of the content policy, no request to another host");
});

async function open(hash, options = {}) {
  const one = await Watched.open(browser, `${broker.url}/${hash}`, options);
  watched.push(one);
  return one;
}

/** Publishes `{partition?, key?, payload}`s by REST, and waits until they are stored. */
async function publish(topic, records) {
  const answer = await broker.api(`/topics/${topic}/messages`, { method: "POST", body: JSON.stringify(records) });
  assert.equal(answer.status, 200, await answer.text());
}

const partitioned = (topic, group) => ({ topic, group, mode: "partitioned", from: "earliest" });
const shared = (topic, group, credit) => ({ topic, group, mode: "shared", from: "earliest", credit, lease_ms: 60000 });

/** How many partitions each member owns by the map: its tokens' members are exactly these sessions, each with so many. */
const owns = (page, shares) => page.waitForFunction((wanted) => {
  const tokens = [...document.querySelectorAll("#map .token")].map((each) => each.dataset.member);
  const counted = Object.entries(wanted).map(([session, count]) => tokens.filter((member) => member.startsWith(session)).length === count);
  return tokens.length === Object.values(wanted).reduce((sum, each) => sum + each, 0) && counted.every((each) => each);
}, shares);

const inOneRow = (page) => page.waitForFunction(() => {
  const tops = [...document.querySelectorAll("#map .token")].map((each) => Math.round(each.getBoundingClientRect().top));
  return tops.length > 0 && tops.every((each) => each === tops[0]);
});

const figure = (page, id, value) => page.waitForFunction(
  ([place, wanted]) => document.querySelector(place)?.textContent === wanted, [`#${id}`, String(value)]);

/** A topic of four partitions with two tabs in both kinds of group: each holds two partitions and four leases, none of them settled. */
async function twoTabs(topic, onFirst = () => undefined) {
  const join = (credit) => Member.join(tabs, broker.url, [partitioned(topic, "parts"), shared(topic, "jobs", credit)]);
  const four = [0, 1, 2, 3].map((partition) => ({ partition, key: `k${partition}`, payload: { n: partition } }));
  const first = await join(4);
  await first.until(() => window.member.held.size === 4);
  await publish(topic, four);
  await first.until(() => window.member.leases.length === 4);
  await onFirst(first);
  const second = await join(16);
  await Promise.all([first, second].map((each) => each.until(() => window.member.held.size === 2)));
  // The first has no credit left, so these go to the second.
  await publish(topic, four);
  await second.until(() => window.member.leases.length === 4);
  return { first, second };
}

test("closing a tab hands its partitions and its leases to the other one", async (context) => {
  await broker.create("tabs", { partitions: 4 });
  const one = await open("#/topics/tabs");
  const { page } = one;
  await page.getByText("No group shares this topic yet.").waitFor();
  const { first, second } = await twoTabs("tabs", async (alone) => {
    await page.getByRole("link", { name: "parts", exact: true }).click();
    await page.evaluate(() => (window.isSamePage = true));
    await owns(page, { [await alone.session]: 4 });
  });
  const [session, other] = await Promise.all([first.session, second.session]);
  await owns(page, { [session]: 2, [other]: 2 });
  assert.equal(await page.locator(".members tbody tr").count(), 2);
  assert.match(await page.locator("#moves").innerText(), /from .+ to /);
  await one.shot("groups-partitioned");

  const work = await open("#/topics/tabs/groups/jobs");
  await figure(work.page, "leased", 8);
  const members = await work.page.locator(".members tbody").innerText();
  assert.ok(members.includes("4 / 4") && members.includes("4 / 16"), members);
  await work.shot("groups-shared");

  const begun = await second.now();
  await first.close();
  await second.until(() => {
    const records = new Set(window.member.leases.map((each) => `${each.partition}:${each.offset}`));
    return window.member.held.size === 4 && records.size === 8;
  });
  const took = (await second.now()) - begun;
  context.diagnostic(`the other tab had everything ${Math.round(took)} ms after the closing began, and the closing itself is in that`);
  const leases = await second.leases;
  assert.equal(leases.length, 8, "each record came once");
  assert.equal(leases.filter((each) => each.attempt === 2).length, 4, "the delivery to the closed tab counted as an attempt");
  assert.deepEqual(await second.held, [0, 1, 2, 3]);

  await owns(page, { [other]: 4 });
  await inOneRow(page);
  assert.equal(await page.locator(".members tbody tr").count(), 1);
  assert.ok(await page.evaluate(() => window.isSamePage), "the map changed without being loaded again");
  await figure(work.page, "leased", 8);
  const reply = await second.ask({ type: "ack", deliveries: leases.map((each) => each.delivery) });
  assert.equal(reply.type, "ok");
  await figure(work.page, "acked", 8);
  await work.page.getByText("Nothing is unfinished.").waitFor();
});

test("dead letter shows its reason, and a click brings it back to a worker", async () => {
  await broker.create("doubts");
  const one = await open("#/topics/doubts");
  const { page } = one;
  const worker = await Member.join(tabs, broker.url, [shared("doubts", "checks", 1)]);
  await publish("doubts", [{ key: "c42", payload: { price: "twelve" } }]);
  await worker.until(() => window.member.leases.length === 1);
  const [lease] = await worker.leases;
  const refused = await worker.ask({ type: "nack", deliveries: [lease.delivery], dead_letter: true, reason: "not a number" });
  assert.equal(refused.type, "ok");

  await page.getByRole("link", { name: "1 dead letter" }).click();
  const letter = page.locator(".letters tbody tr");
  await letter.waitFor();
  assert.equal(await letter.locator(".reason").innerText(), "not a number");
  assert.equal(await letter.locator("td").nth(1).innerText(), "1");
  assert.match(await letter.innerText(), /p0 @0[^]*c42[^]*\{"price":"twelve"\}/);
  await one.shot("dead-letters");

  await page.getByRole("button", { name: "Redrive it" }).click();
  await page.getByText("1 record moved back", { exact: true }).waitFor();
  await worker.until(() => window.member.leases.length === 2);
  const [, again] = await worker.leases;
  assert.deepEqual(again.payload, { price: "twelve" });
  assert.equal((await worker.ask({ type: "ack", deliveries: [again.delivery] })).type, "ok");
  await figure(page, "acked", 1);
  await figure(page, "redriven", 1);
  await page.getByText("No dead letter waits.").waitFor();
  assert.ok(await page.locator("#redrive").isDisabled());
});

test("group is sought and deleted from its page, after a second question", async () => {
  await broker.create("rewound", { partitions: 2 });
  await publish("rewound", Array.from({ length: 6 }, (_, at) => ({ partition: at % 2, payload: at })));
  const one = await open("#/topics/rewound");
  const { page } = one;
  const member = await Member.join(tabs, broker.url, [partitioned("rewound", "readers")]);
  const delivered = (count) => member.until((wanted) => window.member.frames.filter((each) => each.type === "message").length === wanted, count);
  await delivered(6);
  await page.getByRole("link", { name: "readers" }).click();
  await figure(page, "group-lag", 0);
  await page.keyboard.press("s");
  await page.locator("dialog[open]").getByText("The beginning").click();
  await page.locator("dialog[open] button.primary").click();
  await page.getByText("readers goes on from the beginning.").waitFor();
  await delivered(12);
  await figure(page, "group-lag", 0);
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal((await broker.api("/topics/rewound/groups/readers")).status, 200);
  // A look at the group may be on its way while it is deleted.
  isExpected = (problem) => problem.includes("404");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete the group" }).click();
  await page.getByText("No group shares this topic yet.").waitFor();
  assert.equal((await broker.api("/topics/rewound/groups/readers")).status, 404);
  await member.until(() => window.member.frames.some((each) => each.type === "unsubscribed" && each.reason === "group_deleted"));
});

test("snippets to join a group work as they stand", async () => {
  await broker.create("pasted");
  const one = await open("#/topics/pasted");
  await one.page.locator(".groups-none summary").click();
  const snippets = await one.page.locator(".groups-none code").allInnerTexts();
  assert.equal(snippets.length, 2);
  const tab = await tabs.newPage();
  await tab.goto(broker.url);
  // In blocks of their own, because both name their socket `ws`.
  for (const text of snippets) await tab.evaluate(`{ ${text} }`);
  await one.page.getByRole("link", { name: "billing", exact: true }).waitFor();
  await one.page.getByRole("link", { name: "workers", exact: true }).waitFor();
  await publish("pasted", [{ payload: "Hi!" }, { payload: "Hi again!" }]);
  await one.page.goto(`${broker.url}/#/topics/pasted/groups/workers`);
  await figure(one.page, "acked", 2);
  await one.page.goto(`${broker.url}/#/topics/pasted/groups/billing`);
  await figure(one.page, "group-lag", 0);
  assert.equal(await one.page.locator(".group-parts tbody td:nth-child(6)").innerText(), "2");
});

test("page of a group fits a phone, and the keyboard reaches all of it", async () => {
  await broker.create("small", { partitions: 70 });
  const one = await open("#/topics/small", { viewport: { width: 360, height: 740 } });
  const { page } = one;
  await Member.join(tabs, broker.url, [partitioned("small", "readers"), shared("small", "jobs", 4)]);
  for (const [hash, ready] of [["#/topics/small", ".groups tbody tr"], ["#/topics/small/groups/jobs", "#leased"], ["#/topics/small/groups/readers", "#map .token"]]) {
    await page.goto(`${broker.url}/${hash}`);
    await page.locator(ready).first().waitFor();
    const [wide, visible] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= visible, `${hash} is ${wide} wide`);
    await one.shot(`phone-${hash.replace(/\W+/g, "-")}`);
  }
  assert.equal(await page.locator("#map .token").count(), 70, "wrapped, but none is left out");
  const missed = await page.evaluate(() => {
    document.activeElement.blur();
    const all = [...document.querySelectorAll("a, button, [tabindex='0']")];
    window.unreached = new Set(all.filter((each) => each.checkVisibility() && !each.disabled));
    addEventListener("focusin", (event) => window.unreached.delete(event.target));
    return window.unreached.size;
  });
  assert.ok(missed > 10);
  for (let presses = 0; presses < missed + 15; presses += 1) await page.keyboard.press("Tab");
  assert.deepEqual(await page.evaluate(() => [...window.unreached].map((each) => each.outerHTML)), []);
});

test("less motion, when asked for, moves the partitions of a map at once", async () => {
  await broker.create("calm", { partitions: 2 });
  const one = await open("#/topics/calm", { reducedMotion: "reduce" });
  await Member.join(tabs, broker.url, [partitioned("calm", "readers")]);
  await one.page.getByRole("link", { name: "readers" }).click();
  await one.page.locator("#map .token").first().waitFor();
  const duration = await one.page.locator("#map .token").first().evaluate((token) => getComputedStyle(token).transitionDuration);
  assert.equal(duration, "0s");
});
