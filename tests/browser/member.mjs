// A tab that is a member of groups: an ordinary page with a WebSocket of its own, as somebody would open one from the console.

/** Runs in the page. Joins, keeps what came, and leaves every decision to the test. */
function live(subscriptions) {
  const member = { session: null, frames: [], held: new Set(), leases: [], nextId: 100 };
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`);
  member.send = (frame) => {
    const id = member.nextId++;
    socket.send(JSON.stringify({ ...frame, id }));
    return id;
  };
  socket.onopen = () => subscriptions.forEach((one) => member.send({ type: "subscribe", ...one }));
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    member.frames.push(frame);
    if (frame.type === "welcome") member.session = frame.session;
    if (frame.type === "assigned") Object.keys(frame.offsets).forEach((each) => member.held.add(Number(each)));
    if (frame.type === "revoked") frame.partitions.forEach((each) => member.held.delete(each));
    if (frame.type !== "message") return;
    if (frame.delivery !== undefined) member.leases.push(frame);
    // Committed at once, so that a partition that is revoked moves on without waiting for its grace.
    else member.send({ type: "commit", topic: frame.topic, group: frame.group, offsets: { [frame.partition]: frame.offset + 1 } });
  };
  window.member = member;
}

export class Member {
  /** Opens a tab in `context` that joins by `subscriptions` (frames without `type` and `id`), and waits until each has its answer. */
  static async join(context, url, subscriptions) {
    const member = new Member();
    member.page = await context.newPage();
    member.page.setDefaultTimeout(10000);
    await member.page.goto(url);
    await member.page.evaluate(live, subscriptions);
    await member.until((count) => window.member.frames.filter((each) => each.type === "subscribed").length === count, subscriptions.length);
    return member;
  }

  /** Waits until `condition` holds in the tab, asked at every change there. */
  async until(condition, argument) {
    try {
      await this.page.waitForFunction(condition, argument, { polling: 5 });
    } catch (error) {
      const frames = await this.page.evaluate(() => window.member.frames.map((each) => JSON.stringify(each)).slice(-30).join("\n"));
      throw new Error(`the tab waited in vain for ${condition}\nits last frames:\n${frames}`, { cause: error });
    }
  }

  get session() {
    return this.page.evaluate(() => window.member.session);
  }

  get held() {
    return this.page.evaluate(() => [...window.member.held].sort());
  }

  /** The leases that came, as their `message` frames. */
  get leases() {
    return this.page.evaluate(() => window.member.leases);
  }

  /** Sends a frame and waits for its answer. */
  async ask(frame) {
    const id = await this.page.evaluate((each) => window.member.send(each), frame);
    await this.until((wanted) => window.member.frames.some((each) => each.id === wanted), id);
    return this.page.evaluate((wanted) => window.member.frames.find((each) => each.id === wanted), id);
  }

  /** Milliseconds on this tab's own clock. */
  now() {
    return this.page.evaluate(() => performance.now());
  }

  close() {
    return this.page.close();
  }
}
