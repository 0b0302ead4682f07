// What the tests of a page share: one broker and one browser for a file, and a page that is watched while a test lasts.

import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";
import { Broker } from "./broker.mjs";
import { Watched, launch } from "./page.mjs";

/** `options` are the broker's. A page that breaks, or asks for what `expect` does not name, fails its test. */
export function stage(...options) {
  const at = { broker: null, browser: null };
  let watched = [];
  let clients = [];
  let isExpected = () => false;
  before(async () => {
    [at.broker, at.browser] = await Promise.all([Broker.start(...options), launch()]);
  });
  after(async () => {
    await at.browser?.close();
    await at.broker?.stop();
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
  /** Opens the page at `hash`. */
  at.open = async (hash = "", more = {}) => {
    const one = await Watched.open(at.browser, `${(more.broker ?? at.broker).url}/${hash}`, more.context);
    watched.push(one);
    return one;
  };
  /** A client beside the page; it is closed when the test ends. */
  at.beside = async () => {
    const client = await at.broker.client();
    clients.push(client);
    return client;
  };
  at.expect = (isFine) => (isExpected = isFine);
  return at;
}
