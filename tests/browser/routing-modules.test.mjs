// The pure modules behind routing, webhooks, schedules and events, without a browser: what is drawn must be what is bound.

import assert from "node:assert/strict";
import { test } from "node:test";
import { KINDS, brief, eventOf, isOfKind } from "../../static/lib/events.js";
import { countdown } from "../../static/lib/format.js";
import { layOut, rising } from "../../static/lib/layout.js";
import { frameOf, headersOf, placesOf } from "../../static/lib/publish.js";
import { MORE_ID, exchangeId, isStale, labelOf, levelOf, litBy, topicId, wiring } from "../../static/lib/routing.js";
import { answersInWords, reasonWords, stateOf, urlFault } from "../../static/lib/webhooks.js";

/** A small generator of random numbers with a seed, so that a failure can be seen again. */
function generator(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Boxes and wires without a circle: exchanges lead to later exchanges and to topics. */
function randomPlan(random) {
  const inner = 1 + random(8);
  const ends = random(12);
  const nodes = [];
  for (let at = 0; at < inner; at += 1) nodes.push({ id: `e${at}`, height: 30 + random(60), isEnd: false });
  for (let at = 0; at < ends; at += 1) nodes.push({ id: `t${at}`, height: 20 + random(60), isEnd: true });
  const wires = [];
  for (let at = 0; at < random(40); at += 1) {
    const from = random(inner);
    const isToEnd = ends > 0 && random(3) > 0;
    if (!isToEnd && from === inner - 1) continue;
    wires.push({ id: `w${at}`, from: `e${from}`, to: isToEnd ? `t${random(ends)}` : `e${from + 1 + random(inner - from - 1)}` });
  }
  return { nodes, wires };
}

test("no two boxes overlap, every wire runs to the right, and topics stand in the last column", () => {
  for (let seed = 1; seed <= 500; seed += 1) {
    const { nodes, wires } = randomPlan(generator(seed));
    const { columns, height, places, passes } = layOut(nodes, wires, { gap: 10, lane: 20 });
    for (const node of nodes) {
      const place = places.get(node.id);
      assert.ok(place.top >= 0 && place.top + node.height <= height, `seed ${seed}: ${node.id} is inside`);
      if (node.isEnd) assert.equal(place.column, columns - 1, `seed ${seed}: ${node.id} stands last`);
      for (const other of nodes.filter((one) => one !== node && places.get(one.id).column === place.column)) {
        const far = places.get(other.id);
        assert.ok(place.top + node.height + 9 <= far.top || far.top + other.height + 9 <= place.top, `seed ${seed}: ${node.id} and ${other.id}`);
      }
    }
    for (const wire of wires) {
      const [from, to] = [places.get(wire.from), places.get(wire.to)];
      assert.ok(from.column < to.column, `seed ${seed}: ${wire.from} to ${wire.to}`);
      assert.deepEqual(passes.get(wire.id).map((one) => one.column), Array.from({ length: to.column - from.column - 1 }, (_, at) => from.column + 1 + at));
    }
  }
});

test("wires that do not need to cross do not", () => {
  const nodes = ["a", "b", "c"].map((id) => ({ id, height: 40, isEnd: false })).concat(["x", "y", "z"].map((id) => ({ id, height: 40, isEnd: true })));
  const wires = [["a", "z"], ["b", "y"], ["c", "x"]].map(([from, to]) => ({ id: from + to, from, to }));
  const { places } = layOut(nodes, wires, { gap: 10, lane: 20 });
  const order = (ids) => ids.slice().sort((one, other) => places.get(one).top - places.get(other).top).join("");
  const pairs = { a: "z", b: "y", c: "x" };
  assert.equal([...order(["a", "b", "c"])].map((id) => pairs[id]).join(""), order(["x", "y", "z"]));
});

test("a circle is drawn without hanging, and an empty picture is empty", () => {
  const nodes = ["a", "b", "c"].map((id) => ({ id, height: 10, isEnd: false }));
  const wires = [["a", "b"], ["b", "c"], ["c", "a"]].map(([from, to]) => ({ id: from + to, from, to }));
  const { places } = layOut(nodes, wires, { gap: 10, lane: 20 });
  assert.equal(places.size, 3);
  assert.deepEqual(layOut([], [], { gap: 10, lane: 20 }).height, 0);
});

test("nearest numbers that never fall", () => {
  assert.deepEqual(rising([1, 2, 3]), [1, 2, 3]);
  assert.deepEqual(rising([3, 1]), [2, 2]);
  assert.deepEqual(rising([1, 5, 3, 4, 9]), [1, 4, 4, 4, 9]);
  assert.deepEqual(rising([]), []);
});

const binding = (id, to, key, rate = 0) => ({ id, ...to, routing_key: key, rates: { publishes_per_s: rate } });
const exchange = (name, type, bindings, more = {}) => ({ name, type, bindings, count: bindings.length, isTooMany: false, unroutable: 0, ...more });
const LIMITS = { exchangesMax: 40, topicsMax: 80 };

test("bindings between the same two are one wire with the sum of their rates", () => {
  const plan = wiring([
    exchange("in", "topic", [binding("b-1", { topic: "t" }, "a.#", 2), binding("b-2", { topic: "t" }, "b.#", 3), binding("b-3", { exchange: "out" }, "#")], { alternate: "lost" }),
    exchange("lost", "fanout", []),
    exchange("out", "fanout", [binding("b-4", { topic: "t" }, "")]),
  ], "in", LIMITS);
  const found = new Map(plan.wires.map((one) => [`${one.from} > ${one.to}`, one]));
  assert.equal(plan.wires.length, 4);
  const both = found.get(`${exchangeId("in")} > ${topicId("t")}`);
  assert.deepEqual([both.rate, both.label, both.bindings.length], [5, "a.#, b.#", 2]);
  assert.equal(found.get(`${exchangeId("out")} > ${topicId("t")}`).label, "");
  assert.equal(found.get(`${exchangeId("in")} > ${exchangeId("lost")}`).isAlternate, true);
  assert.deepEqual([plan.topics, plan.isFolded, plan.hidden], [["t"], false, 0]);
});

test("topics beyond the limit stand in one box, and none is lost or counted twice", () => {
  const many = Array.from({ length: 100 }, (_, at) => binding(`b-${at}`, { topic: `t${at}` }, `k${at}`, 1));
  const plan = wiring([exchange("a", "direct", [binding("b-x", { topic: "first" }, "x")]), exchange("big", "direct", many)], "big", LIMITS);
  assert.equal(plan.topics.length, 79);
  assert.equal(plan.hidden, 22);
  assert.ok(plan.topics.includes("t0") && !plan.topics.includes("first"), "the chosen exchange's topics come first");
  const more = plan.wires.filter((one) => one.to === MORE_ID);
  assert.deepEqual(more.map((one) => one.bindings.length).sort(), [1, 21]);
});

test("an exchange with too many bindings has one wire that says how many, and further exchanges are named", () => {
  const plan = wiring([exchange("huge", "topic", [], { count: 100000, isTooMany: true }), exchange("x", "direct", [])], "huge", { exchangesMax: 1, topicsMax: 80 });
  assert.deepEqual(plan.wires.map((one) => [one.to, one.label]), [[MORE_ID, "100000 bindings"]]);
  assert.deepEqual(plan.left.map((one) => one.name), ["x"]);
});

test("label of a wire is its key while it is short", () => {
  assert.equal(labelOf("topic", ["plant.#"]), "plant.#");
  assert.equal(labelOf("direct", [""]), "(empty key)");
  assert.equal(labelOf("direct", ["eu", "us"]), "eu, us");
  assert.equal(labelOf("direct", ["a.long.routing.key", "another"]), "2 keys");
  assert.equal(labelOf("fanout", ["whatever"]), "");
});

test("bindings are asked for again when they may have changed, and not otherwise", () => {
  const now = 100000;
  const quiet = { bindings: 3, rates: { publishes_per_s: 0 } };
  const known = { count: 3, at: now - 2000, wasBusy: false };
  assert.equal(isStale(undefined, quiet, now), true);
  assert.equal(isStale(known, quiet, now), false);
  assert.equal(isStale({ ...known, count: 2 }, quiet, now), true);
  assert.equal(isStale(known, { ...quiet, rates: { publishes_per_s: 0.1 } }, now), true);
  assert.equal(isStale({ ...known, wasBusy: true }, quiet, now), true, "once more, so that the rate falls to nothing");
  assert.equal(isStale({ ...known, at: now - 20000 }, quiet, now), true);
});

test("breadth grows with the rate, and something is never nothing", () => {
  assert.deepEqual([0, 0.01, 0.9, 1, 10, 100, 1000, 1e6].map(levelOf), [0, 1, 1, 2, 3, 4, 5, 5]);
});

test("a dry run lights what its answer names", () => {
  const lit = litBy({ exchange: "in", key: "k", answer: { routes: [{ topic: "t" }], bindings: ["b-1"], exchanges: ["in", "out"], alternate: false }, error: null });
  assert.deepEqual([[...lit.topics], [...lit.bindings], [...lit.exchanges]], [["t"], ["b-1"], ["in", "out"]]);
  assert.equal(litBy(null), null);
  assert.equal(litBy({ exchange: "in", key: "k", answer: null, error: new Error("refused") }), null);
});

const form = { exchange: "", routingKey: "", key: "", partition: "", headers: "", messageId: "", ttl: "", payload: "1.10", ack: "durable", when: "now", amount: "", unit: "seconds", at: "" };

test("frame says where and when, and leaves out what was not asked for", () => {
  assert.deepEqual(frameOf("t", form), { fields: { type: "publish", topic: "t", ack: "durable" }, raw: { payload: "1.10" } });
  const routed = frameOf("t", { ...form, exchange: "e", routingKey: "a.b", partition: "2" });
  assert.deepEqual(routed.fields, { type: "publish", exchange: "e", routing_key: "a.b", ack: "durable" }, "a partition is nothing to an exchange");
  assert.equal(frameOf("t", { ...form, when: "after", amount: "1.5", unit: "minutes" }).fields.delay_ms, 90000);
  assert.equal(frameOf("t", { ...form, when: "at", at: "2030-01-02T03:04:05Z" }).fields.deliver_at, "2030-01-02T03:04:05.000Z");
  assert.deepEqual(frameOf("t", { ...form, messageId: "m-1", ttl: "0" }).fields, { type: "publish", topic: "t", ack: "durable", message_id: "m-1", ttl_ms: 0 });
  for (const bad of [{ when: "after", amount: "" }, { when: "after", amount: "-1" }, { when: "at", at: "" }, { headers: "no colon" }]) {
    assert.throws(() => frameOf("t", { ...form, ...bad }), Error, JSON.stringify(bad));
  }
  assert.deepEqual(headersOf("a: b\n\nc:d:e"), { a: "b", c: "d:e" });
});

test("places of a reply name their topics", () => {
  assert.deepEqual(placesOf({ topic: "t", partition: 1, offset: 2 }, "t").map(({ topic, offset }) => [topic, offset]), [["t", 2]]);
  assert.deepEqual(placesOf({ exchange: "e", routes: [{ topic: "a", partition: 0, offset: 5 }, { topic: "b", partition: 0, offset: 9 }] }).map((one) => one.topic), ["a", "b"]);
});

const said = (event) => eventOf({ partition: 0, offset: 1, timestamp: 5, key: "k", payload: JSON.stringify(event) });
const text = (event) => said(event).words.map((part) => (typeof part === "string" ? part : part.text ?? part.code)).join("");

test("events are told in words, with links to what is still there", () => {
  assert.equal(text({ event: "topic_created", topic: "orders", temporary: true }), "Temporary topic orders was made");
  assert.equal(text({ event: "binding_created", exchange: "in", to_exchange: "out", routing_key: "a.#" }), "in now leads to out by a.#");
  assert.equal(text({ event: "member_joined", topic: "t", group: "g", member: "worker-1" }), "worker-1 joined g of t");
  assert.equal(text({ event: "source_silent", topic: "t", silent_ms: 30000 }), "t has been silent for 30 s");
  assert.ok(said({ event: "topic_created", topic: "a/b" }).words.some((part) => part.href === "#/topics/a%2Fb"));
  assert.ok(!said({ event: "topic_deleted", topic: "t" }).words.some((part) => part.href));
  assert.equal(said({ event: "webhook_disabled", webhook: "w", topic: "t", group: "g", url: "http://x.example/h", reason: "gone" }).isGrave, true);
  assert.ok(isOfKind(said({ event: "binding_deleted", exchange: "a", topic: "t" }), "routing") && !isOfKind(said({ event: "session_left", session: "s" }), "routing"));
  assert.equal(Object.keys(KINDS).filter((kind) => isOfKind(said({ event: "group_rebalanced", topic: "t", group: "g", generation: 2 }), kind)).join(), "groups");
});

test("in brief there are no sessions, and of the same rebalance only the last", () => {
  const rebalanced = (group, generation) => said({ event: "group_rebalanced", topic: "t", group, generation });
  const list = [rebalanced("a", 5), said({ event: "session_left", session: "s" }), rebalanced("a", 4), rebalanced("b", 2), said({ event: "topic_created", topic: "t" }), rebalanced("a", 3)];
  assert.deepEqual(brief(list, 5).map((one) => one.name + (one.again ?? "")), ["group_rebalancedt a", "group_rebalancedt b", "topic_created"]);
  assert.equal(brief(list, 2).length, 2);
});

test("an event of a later broker is shown by its name, and a strange record breaks nothing", () => {
  assert.equal(text({ event: "moon_risen" }), "moon risen k");
  for (const payload of ["null", "1", '{"event":"toString"}', '{"event":5}', "{", null]) assert.equal(eventOf({ partition: 0, offset: 0, timestamp: 0, key: null, payload }).words.length > 0, true, payload);
});

test("countdown never says that less is left than is", () => {
  assert.deepEqual([1, 100, 101, 9999, 59999, 60000, 61500].map(countdown), ["0.1 s", "0.1 s", "0.2 s", "10.0 s", "60.0 s", "1 min", "1 min 2 s"]);
});

test("webhook's state is said with its reason and its next try", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  assert.equal(stateOf({ state: "active" }, now), "active");
  assert.equal(stateOf({ state: "paused", retry_at: "2026-11-21T12:00:05Z" }, now), "paused, tries again in 5 s");
  assert.equal(stateOf({ state: "paused", retry_at: "2026-11-21T11:00:00Z" }, now), "paused, trying again");
  assert.equal(stateOf({ state: "disabled" }, now), "disabled");
  assert.equal(reasonWords("gone"), "it answered 410 Gone");
  assert.equal(reasonWords("moonrise"), "moonrise");
  assert.equal(reasonWords(undefined), "no reason is given");
  const answers = [{ at: "2026-11-21T12:00:00Z", status: 503 }, { at: "2026-11-21T11:59:00Z", status: 204 }];
  assert.match(answersInWords(answers), /^1 of the last 2 calls were taken, the newest at .* with 503$/);
});

test("address that is none is said so before it is sent", () => {
  for (const good of ["https://a.example/x", "http://127.0.0.1:9/"]) assert.equal(urlFault(good), null);
  for (const bad of ["", "a.example", "ftp://a.example/", "javascript:1"]) assert.ok(urlFault(bad), bad);
});
