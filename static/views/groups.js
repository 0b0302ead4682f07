// The groups of a topic on its page: who shares its records, and how far behind they are.

import { Notice, Snippet, Sparkline, Trouble, html } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { POLL_MS, history, joinSnippet, note } from "../lib/groups.js";
import { usePolled } from "../lib/poll.js";
import { groupHash } from "../lib/place.js";

/** Points that the small lines show: three minutes. */
export const TREND_POINTS = 120;
/** Rows drawn at once. */
const ROWS_MAX = 100;

/** The groups of a topic, asked for while the component lives: `{list, error}`. */
export function useGroups(name) {
  const { value, error } = usePolled(async () => {
    const list = await api.listGroups(name);
    note(name, list, Date.now());
    return list.sort((a, b) => (a.group < b.group ? -1 : 1));
  }, name, POLL_MS);
  return { list: value, error };
}

export function Groups({ topic, groups }) {
  const { list, error } = groups;
  return html`
    <${Notice} title="Groups" id="groups" className="flush groups-notice">
      <${Trouble} error=${error} />
      ${list === null ? (error ? null : html`<p class="nothing">Looking for groups…</p>`)
        : list.length === 0 ? html`<${NoGroup} topic=${topic} />` : html`<${Table} topic=${topic} list=${list} />`}
    </${Notice}>`;
}

function NoGroup({ topic }) {
  return html`
    <div class="groups-none">
      <p>No group shares this topic yet. In a group many consumers divide the records between them, and the broker remembers how far they came.
        The first member makes it.</p>
      <details class="more"><summary>Join one from a browser console</summary>
        <div class="columns">
          <${Snippet} ...${joinSnippet(topic.name, "billing", "partitioned")} />
          <${Snippet} ...${joinSnippet(topic.name, "workers", "shared")} />
        </div>
      </details>
    </div>`;
}

function Table({ topic, list }) {
  return html`
    <table class="groups">
      <thead><tr>
        <th scope="col">Group</th><th scope="col">Mode</th><th scope="col" class="number">Members</th><th scope="col" class="number">Lag</th>
        <th scope="col" class="number">Behind by</th><th scope="col" class="trend-cell">Lag, last minutes</th>
      </tr></thead>
      <tbody>${list.slice(0, ROWS_MAX).map((group) => html`<${Row} key=${group.group} topic=${topic} group=${group} />`)}</tbody>
    </table>
    ${list.length > ROWS_MAX ? html`<p class="nothing">${ROWS_MAX} of ${format.count(list.length)} groups are shown.</p>` : null}`;
}

function Row({ topic, group }) {
  const away = group.members.filter((one) => !one.connected).length;
  return html`
    <tr>
      <th scope="row"><a class="group-name" href=${groupHash(topic.name, group.group)}>${group.group}</a>
        ${group.dead_letters > 0 ? html` <a class="tag tag-bad" href=${groupHash(topic.name, group.group)}>${format.plural(group.dead_letters, "dead letter")}</a>` : null}</th>
      <td data-label="Mode">${group.mode}</td>
      <td data-label="Members" class="number">${format.count(group.members.length)}${away > 0 ? html` <span class="faint">(${away} away)</span>` : null}</td>
      <td data-label="Lag" class="number">${format.count(group.lag)}</td>
      <td data-label="Behind by" class="number">${format.span(group.lag_ms)}</td>
      <td class="trend-cell"><${Sparkline} points=${history(topic.name, group.group)} of=${(point) => point.lag} most=${TREND_POINTS}
        label=${`Lag of ${group.group} over the last minutes, now ${format.plural(group.lag, "record")}`} /></td>
    </tr>`;
}

/** The groups in the topic's head: how many, and how far the one furthest behind is. Pressing it leads to them. */
export function GroupSum({ list }) {
  if (list === null || list.length === 0) return null;
  const most = Math.max(...list.map((group) => group.lag));
  return html`<span><button type="button" class="link-like on-head" onClick=${goToGroups}><b>${format.count(list.length)}</b> ${list.length === 1 ? "group" : "groups"}</button>${
    most > 0 ? `, ${format.short(most)} behind` : ", up to date"}</span>`;
}

/** Brings the groups into sight and the focus to the first of them. */
export function goToGroups() {
  const place = document.querySelector(".groups-notice");
  place?.scrollIntoView({ block: "start" });
  place?.querySelector("a, summary")?.focus({ preventScroll: true });
}
