// The page: which view the address asks for, the header over all of them, and what works everywhere.

import { h, render } from "./vendor/preact.js";
import { useEffect, useState } from "./vendor/preact-hooks.js";
import { signal } from "./vendor/signals-core.js";
import { connect } from "./lib/socket.js";
import { watchTopics } from "./lib/topics.js";
import { bind } from "./lib/keys.js";
import { html, said, useSignal } from "./lib/ui.js";
import { toggleTheme } from "./lib/theme.js";
import { Events } from "./views/events.js";
import { Group } from "./views/group.js";
import { Header } from "./views/header.js";
import { Help } from "./views/help.js";
import { Overview } from "./views/overview.js";
import { Routing } from "./views/routing.js";
import { Sessions } from "./views/sessions.js";
import { Topic } from "./views/topic.js";
import { Webhook } from "./views/webhook.js";
import { Webhooks } from "./views/webhooks.js";

const connection = connect();
watchTopics(connection);

/**
 * `#/topics/orders/3/17` is the record at offset 17 of partition 3 of `orders`, `#/topics/orders/groups/billing` its group `billing`,
 * `#/routing/readings` the exchange `readings`.
 */
function parse(hash) {
  const [view, ...rest] = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (view === "sessions" || view === "events") return { view };
  if (view === "routing") return { view, exchange: rest[0] || null };
  if (view === "webhooks") return rest[0] ? { view: "webhook", id: rest[0] } : { view };
  if (view === "topics" && rest[1] === "groups" && rest[2]) return { view: "group", topic: rest[0], group: rest[2] };
  if (view === "topics" && rest[0]) {
    const isRecord = /^\d+$/.test(rest[1] ?? "") && /^\d+$/.test(rest[2] ?? "");
    return { view: "topic", topic: rest[0], record: isRecord ? { partition: Number(rest[1]), offset: Number(rest[2]) } : null };
  }
  return { view: "overview" };
}

const route = signal(parse(location.hash));
addEventListener("hashchange", () => {
  if (location.hash === "" || location.hash.startsWith("#/")) route.value = parse(location.hash);
});

/** Goes to a view. With `replaces` the step back leads past the present one, as when leafing through records. */
const go = (hash, replaces = false) => {
  if (replaces) location.replace(hash);
  else location.hash = hash;
};

const TITLES = {
  overview: () => "Topics",
  routing: (at) => (at.exchange === null ? "Routing" : `${at.exchange} · Routing`),
  webhooks: () => "Webhooks",
  webhook: () => "Webhook",
  events: () => "Events",
  sessions: () => "Sessions",
  topic: (at) => at.topic,
  group: (at) => `${at.group} · ${at.topic}`,
};

function View({ at }) {
  if (at.view === "sessions") return html`<${Sessions} connection=${connection} />`;
  if (at.view === "routing") return html`<${Routing} connection=${connection} asked=${at.exchange} go=${go} />`;
  if (at.view === "webhooks") return html`<${Webhooks} connection=${connection} />`;
  if (at.view === "webhook") return h(Webhook, { key: at.id, connection, id: at.id, go });
  if (at.view === "events") return html`<${Events} connection=${connection} />`;
  if (at.view === "topic") return h(Topic, { key: at.topic, connection, name: at.topic, asked: at.record, go });
  if (at.view === "group") return h(Group, { key: `${at.topic}/${at.group}`, connection, topic: at.topic, name: at.group, go });
  return html`<${Overview} connection=${connection} go=${go} />`;
}

function Said() {
  const now = useSignal(said);
  return html`<div class="said-place" role="status" aria-live="polite">
    ${now ? html`<p class=${`said said-${now.tone}`}>${now.text}</p>` : null}
  </div>`;
}

function App() {
  const at = useSignal(route);
  const [isHelpOpen, setHelp] = useState(false);
  useEffect(() => {
    document.title = `${TITLES[at.view](at)} · Callboard`;
  }, [at]);
  useEffect(() => {
    const undo = [
      bind("?", "Show or hide this sheet", () => setHelp((is) => !is)),
      bind("g t", "Go to topics", () => go("#/")),
      bind("g r", "Go to routing", () => go("#/routing")),
      bind("g w", "Go to webhooks", () => go("#/webhooks")),
      bind("g e", "Go to events", () => go("#/events")),
      bind("g s", "Go to sessions", () => go("#/sessions")),
      bind("t", "Switch between dark and light", toggleTheme),
    ];
    return () => undo.forEach((one) => one());
  }, []);
  return html`
    <${Header} connection=${connection} view=${at.view} onHelp=${() => setHelp(true)} />
    <main id="main" tabindex="-1"><${View} at=${at} /></main>
    <${Said} />
    <${Help} isOpen=${isHelpOpen} onClose=${() => setHelp(false)} />`;
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // The address names the view and must stay.
  document.querySelector("#main").focus();
});

render(html`<${App} />`, document.querySelector("#app"));
