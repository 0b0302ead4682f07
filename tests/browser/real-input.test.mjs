// Real files, published by the command line, as the dashboard shows them. Needs CALLBOARD_DATASETS, the data of
// the npm package vega-datasets; `cargo xtask test` fetches it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { Broker } from "./broker.mjs";
import { Watched, launch } from "./page.mjs";

const datasets = process.env.CALLBOARD_DATASETS;
const skip = datasets ? false : "CALLBOARD_DATASETS is not set";

test("stock prices from a CSV file are seen in the dashboard", { skip }, async (context) => {
  const [broker, browser] = await Promise.all([Broker.start(), launch()]);
  context.after(async () => {
    await browser.close();
    await broker.stop();
  });
  const file = join(datasets, "stocks.csv");
  const lines = (await readFile(file, "utf8")).trim().split("\n");
  await broker.create("stocks", { partitions: 3 });
  const watched = await Watched.open(browser, `${broker.url}/#/topics/stocks`);
  const { page } = watched;
  await page.waitForSelector(".log", { state: "attached" });
  await page.waitForFunction(() => document.querySelector(".stage-note") === null);
  const server = `${broker.url.replace("http", "ws")}/ws`;
  await promisify(execFile)(
    process.env.CALLBOARD_BIN,
    ["pub", "--topic", "stocks", "--key", "symbol", "--csv", file],
    { env: { ...process.env, CALLBOARD_SERVER: server } },
  );
  // The newest record of its symbol is the file's last line, with the price as it stands there. Records of other
  // partitions that were stored together with it may stand above it.
  const [symbol, date, price] = lines.at(-1).split(",");
  const filter = page.getByLabel("Filter by text");
  await filter.fill(`"symbol":"${symbol}"`);
  const row = page.locator(".log tbody tr:not(.spacer)").filter({ hasText: date }).filter({ hasText: symbol });
  await row.first().waitFor();
  assert.match(await row.first().innerText(), new RegExp(price.trim().replace(".", "\\.")));
  await filter.fill("");
  await page.waitForFunction(() => Number(document.querySelector("#flow").dataset.landed ?? 0) > 0);
  const { partitions } = await (await broker.api("/topics/stocks")).json();
  const stored = partitions.reduce((sum, one) => sum + one.next_offset, 0);
  assert.equal(stored, lines.length - 1);
  // What the page has seen and what its table of partitions says are the same sum.
  await page.waitForFunction((expected) => {
    const number = (text) => Number((text ?? "0").replace(/[^0-9]/g, ""));
    const count = (id) => number(document.querySelector(id)?.textContent);
    const next = [...document.querySelectorAll(".partitions tbody td:nth-child(4)")].map((cell) => number(cell.textContent));
    return count("#received") + count("#skipped") === expected && next.reduce((sum, each) => sum + each, 0) === expected;
  }, stored);
  for (const each of new Set(lines.slice(1).map((line) => line.split(",")[0]))) {
    await filter.fill(`"symbol":"${each}"`);
    await page.waitForFunction((wanted) => {
      const rows = [...document.querySelectorAll(".log tbody tr:not(.spacer)")];
      return rows.length > 0 && rows.every((shown) => shown.textContent.includes(wanted));
    }, `"symbol":"${each}"`);
  }
  assert.deepEqual(watched.unexpected(), []);
  await watched.shot("stocks");
});
