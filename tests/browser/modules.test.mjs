// The page's pure modules, without a browser: what reads JSON must never change it, and what draws must never lie about numbers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { elements, fault, headerPairs, members, oneLine, pretty, record } from "../../static/lib/json.js";
import { bytes, hue, short, span } from "../../static/lib/format.js";
import { Palette, callOf, history, moveWords, movesBetween, note, pace, runs } from "../../static/lib/groups.js";
import { encode } from "../../static/lib/socket.js";

/** A small generator of random numbers with a seed, so that a failure can be seen again. */
function generator(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const SCALARS = ["0", "-1.10", "999999996000000004", "1E+400", "true", "false", "null", '""', '"a\\"b\\\\"', '"{[,:]}"', '"\\u00e9\\n"', '"日本"'];

function randomJson(random, depth = 0) {
  const space = () => ["", " ", "\n", "\t "][random(4)];
  const kind = depth > 4 ? 0 : random(4);
  if (kind < 2) return SCALARS[random(SCALARS.length)];
  const parts = Array.from({ length: random(4) }, () => {
    const value = randomJson(random, depth + 1);
    return kind === 2 ? `${space()}${value}${space()}` : `${space()}"k\\"${random(9)}"${space()}:${space()}${value}${space()}`;
  });
  return kind === 2 ? `[${parts.join(",") || space()}]` : `{${parts.join(",") || space()}}`;
}

test("pretty printing keeps every token as it was and in its place", () => {
  for (let seed = 1; seed <= 2000; seed += 1) {
    const text = randomJson(generator(seed));
    const { lines, cut } = pretty(text);
    const printed = lines.map((line) => "  ".repeat(line.depth) + line.tokens.map((token) => token.text).join("")).join("\n");
    const tokens = (json) => json.match(/"(?:\\.|[^"\\])*"|[^\s"{}[\],:]+|[{}[\],:]/g);
    assert.equal(cut, false);
    assert.deepEqual(tokens(printed), tokens(text), `seed ${seed}`);
    assert.deepEqual(JSON.parse(printed), JSON.parse(text), `seed ${seed}`);
  }
});

test("members and elements are cut out byte for byte", () => {
  for (let seed = 1; seed <= 2000; seed += 1) {
    const random = generator(seed);
    const values = Array.from({ length: 1 + random(5) }, () => randomJson(random));
    assert.deepEqual(elements(`[ ${values.join(" ,\n")} ]`), values, `seed ${seed}`);
    const found = members(`{${values.map((value, at) => `"m${at}" : ${value}`).join(" , ")}}`);
    assert.deepEqual([...found.values()], values, `seed ${seed}`);
  }
});

test("record keeps payload and headers as text", () => {
  const line = '{"type":"message","topic":"t","partition":3,"offset":17,"timestamp":5,"key":"c\\u00e4","headers":{"a":"1"},"payload":{"n":999999996000000004,"p":1.10}}';
  const one = record(members(line));
  assert.equal(one.payload, '{"n":999999996000000004,"p":1.10}');
  assert.equal(one.key, "cä");
  assert.deepEqual(headerPairs(one), [["a", "1"]]);
  assert.deepEqual([one.partition, one.offset], [3, 17]);
});

test("record that was never stored has no offset", () => {
  assert.equal(record(members('{"topic":"t","partition":0,"timestamp":5,"payload":1}')).offset, null);
});

test("frame carries its payload untouched and on one line", () => {
  const frame = encode({ type: "publish", topic: "t", id: 1 }, { payload: oneLine('\n{"a":\r\n 1.10}\n') });
  assert.equal(frame, '{"type":"publish","topic":"t","id":1,"payload":{"a":   1.10}}');
});

test("fault is found in what is no JSON and in nothing else", () => {
  for (const good of ["1.10", '"x"', "[1,{}]", " null "]) assert.equal(fault(good), null);
  for (const bad of ["", "{a:1}", "[1,]", "01", "'x'", "1 2"]) assert.ok(fault(bad), bad);
});

test("short numbers and sizes stay short and never fall into the next unit", () => {
  assert.deepEqual([0, 999, 1000, 1249, 9949, 12345, 999499, 999500, 1e6, 45e6, 2e9].map(short), ["0", "999", "1k", "1.2k", "9.9k", "12k", "999k", "1M", "1M", "45M", "2G"]);
  assert.deepEqual([0, 1023, 1024, 1536, 1048575, 1048576].map(bytes), ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1 MiB"]);
});

test("colour of a key is always the same and one of eight, all of which occur", () => {
  const hues = new Set(Array.from({ length: 200 }, (_, at) => hue(`k${at}`)));
  assert.equal(hues.size, 8);
  assert.equal(hue("c42"), hue("c42"));
});

test("how far behind something is stays short and never shows sixty of a unit", () => {
  const spans = [[-5, "0 s"], [0, "0 s"], [420, "420 ms"], [999, "999 ms"], [4100, "4.1 s"], [59949, "59.9 s"], [59950, "1 min"], [200400, "3 min 20 s"],
    [3599400, "59 min 59 s"], [3599500, "1 h"], [18600000, "5 h 10 min"], [86399500, "1 d"], [183600000, "2 d 3 h"]];
  for (const [ms, said] of spans) assert.equal(span(ms), said, `${ms} ms`);
});

test("runs of partitions name each of them once", () => {
  assert.equal(runs([]), "");
  assert.equal(runs([7, 0, 2, 1, 3]), "p0–p3, p7");
  assert.equal(runs([5, 4]), "p4, p5");
  assert.equal(runs([0, 2, 4, 5, 6, 9], 2), "p0, p2 and 4 more");
});

test("moves are joined by the way they went, and what stays is not among them", () => {
  const before = new Map([[0, "a"], [1, "a"], [2, "b"], [3, null]]);
  const moves = movesBetween(before, new Map([[0, "b"], [1, "b"], [2, "b"], [3, "a"], [4, "a"]]));
  assert.deepEqual(moves, [{ from: "a", to: "b", partitions: [0, 1] }, { from: null, to: "a", partitions: [3, 4] }]);
  assert.deepEqual(moves.map(moveWords), ["p0, p1 from a to b", "p3, p4 to a"]);
  assert.deepEqual(movesBetween(before, before), []);
  assert.equal(moveWords({ from: "a", to: null, partitions: [1] }), "p1 away from a");
});

test("member without a name is said by the end of its session", () => {
  assert.equal(callOf("0197f3a2-6c1e-7d40-9a3b-0abc00001eef/2"), "…001eef/2");
  assert.equal(callOf("worker-1"), "worker-1");
  assert.equal(callOf("a/0"), "a/0");
});

test("member keeps its colour while it is there, and eight members have eight", () => {
  const palette = new Palette();
  const first = new Map(palette.paint(["a", "b", "c"]));
  assert.deepEqual([...first.values()], [0, 1, 2]);
  const second = new Map(palette.paint(["d", "c", "a"]));
  assert.equal(second.get("a"), 0);
  assert.equal(second.get("c"), 2);
  assert.equal(second.get("d"), 1, "the colour of the one that left is free again");
  const crowd = palette.paint(Array.from({ length: 16 }, (_, at) => `m${at}`));
  for (let colour = 0; colour < 8; colour += 1) assert.equal([...crowd.values()].filter((each) => each === colour).length, 2);
});

test("pace of a group counts what it finished, and says nothing after a seek back", () => {
  const at = (finished) => ({ group: "g", lag: 100 - finished, lag_ms: 5, partitions: [{ next_offset: 100, lag: 100 - finished }] });
  note("t", [at(10)], 1000);
  assert.equal(pace(history("t", "g")), null, "one look has no pace");
  note("t", [at(40)], 4000);
  assert.equal(pace(history("t", "g")), 10);
  note("t", [at(0)], 5000);
  assert.equal(pace(history("t", "g")), null);
  note("t", [at(0)], 5000 + 60001);
  assert.equal(history("t", "g").length, 1, "a line over a gap would be made up");
});
