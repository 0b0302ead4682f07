// The page's pure modules, without a browser: what reads JSON must never change it, and what draws must never lie about numbers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { elements, fault, headerPairs, members, oneLine, pretty, record } from "../../static/lib/json.js";
import { bytes, hue, short } from "../../static/lib/format.js";
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
