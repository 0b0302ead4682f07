// A page under watch: whatever goes wrong in it, or leaves it for another host, fails the test that opened it.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

const ARGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** Chromium with a fresh profile. */
export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });

export class Watched {
  problems = [];

  static async open(browser, url, options = {}) {
    const watched = new Watched();
    watched.host = new URL(url).host;
    watched.context = await browser.newContext({ viewport: { width: 1360, height: 900 }, colorScheme: "light", ...options });
    await watched.context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
    });
    const page = await watched.context.newPage();
    page.on("console", (message) => message.type() === "error" && watched.problems.push(message.text()));
    page.on("pageerror", (error) => watched.problems.push(error.stack));
    page.on("request", (request) => watched.#expectHome(request.url()));
    page.on("websocket", (socket) => watched.#expectHome(socket.url()));
    page.setDefaultTimeout(10000);
    watched.page = page;
    await page.goto(url);
    await page.waitForSelector(".link-open");
    return watched;
  }

  #expectHome(url) {
    const { host, protocol } = new URL(url);
    if (host !== this.host && protocol !== "data:") this.problems.push(`a request to another host: ${url}`);
  }

  /** What went wrong, without what `isExpected` names. */
  unexpected(isExpected = () => false) {
    return this.problems.filter((problem) => !isExpected(problem));
  }

  async shot(name) {
    const directory = process.env.SCREENSHOTS;
    if (!directory) return;
    await mkdir(directory, { recursive: true });
    await this.page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
  }
}

/** Sums over the pixels of the picture: two moments with other dots, or dots elsewhere, differ. */
export const fingerprint = (page) => page.evaluate(() => {
  const canvas = document.querySelector("#flow");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 0) sum = (sum * 31 + at + data[at]) % 4294967291;
  return sum;
});

/** Records that have come to their lane in the picture. */
export const landed = (page) => page.evaluate(() => Number(document.querySelector("#flow").dataset.landed ?? 0));
