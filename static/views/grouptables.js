// A group in tables: its members, and where it stands in each partition.

import { Notice, html } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { callOf, runs } from "../lib/groups.js";

/** Rows drawn at once. */
const MEMBERS_MAX = 200;
/** Runs of partitions that are said of one member; the map has them all. */
const RUNS_MAX = 12;

/** A member with its colour in the map. */
function Member({ name, colour }) {
  return html`<span class=${`key ${colour === null ? "key-none" : `key-${colour}`}`} title=${name}>${callOf(name)}</span>`;
}

function stateOf(member, isShared) {
  if (!member.connected) return html`<span class="tag tag-bad">away, may come back</span>`;
  if (isShared) return "connected";
  if (member.revoking?.length > 0) return html`<span class="tag">hands ${runs(member.revoking, 4)} over</span>`;
  return member.partitions.length === 0 ? html`connected, <span class="faint">in reserve</span>` : "connected";
}

function Credit({ member }) {
  const { out, credit } = member;
  return html`
    <span class="credit"><meter min="0" max=${Math.max(1, credit)} value=${Math.min(out, credit)} aria-label=${`${out} of ${credit} deliveries out`}></meter>
    <span>${format.count(out)} / ${format.count(credit)}</span></span>`;
}

export function Members({ group, colours }) {
  const isShared = group.mode === "shared";
  const shown = group.members.slice(0, MEMBERS_MAX);
  return html`
    <${Notice} title="Members" className="flush">
      ${group.members.length === 0 ? html`<p class="nothing">Nobody is here. The group keeps its place, and whoever joins goes on from there.</p>` : html`
        <div class="scroll-x members-scroll" tabindex="0" role="group" aria-label="Members of the group">
        <table class="members">
          <thead><tr>
            <th scope="col">Member</th>${isShared ? null : html`<th scope="col">Partitions</th>`}<th scope="col" title="Deliveries out, of as many as it takes at once">Out / credit</th><th scope="col">State</th>
          </tr></thead>
          <tbody>${shown.map((member) => html`
            <tr key=${member.member} class=${member.connected ? "" : "away"}>
              <th scope="row"><${Member} name=${member.member} colour=${colours.get(member.member) ?? null} /></th>
              ${isShared ? null : html`<td data-label="Partitions" class="owned">${member.partitions.length === 0 ? html`<span class="faint">none</span>` : runs(member.partitions, RUNS_MAX)}</td>`}
              <td data-label="Out / credit"><${Credit} member=${member} /></td>
              <td data-label="State">${stateOf(member, isShared)}</td>
            </tr>`)}
          </tbody>
        </table>
        </div>`}
      ${group.members.length > MEMBERS_MAX ? html`<p class="nothing">${MEMBERS_MAX} of ${format.count(group.members.length)} members are shown.</p>` : null}
    </${Notice}>`;
}

export function GroupPartitions({ group, colours }) {
  const isShared = group.mode === "shared";
  const most = Math.max(1, ...group.partitions.map((one) => one.lag));
  return html`
    <${Notice} title="Partitions" className="flush">
      <div class="scroll-x" tabindex="0" role="group" aria-label="Partitions of the group">
      <table class="partitions group-parts">
        <thead><tr>
          <th scope="col">No.</th>${isShared ? null : html`<th scope="col">Member</th>`}<th scope="col" class="share">Lag</th><th scope="col" class="number">Records</th>
          <th scope="col" class="number">Behind by</th>
          <th scope="col" class="number" title=${isShared ? "All before it are finished" : "The next record to be processed"}>${isShared ? "Finished to" : "Committed"}</th>
          <th scope="col" class="number">Next offset</th>
          ${isShared ? html`<th scope="col" class="number">Leased</th><th scope="col" class="number">Waiting</th>` : null}
        </tr></thead>
        <tbody>${group.partitions.map((one) => html`
          <tr key=${one.partition}>
            <th scope="row">p${one.partition}</th>
            ${isShared ? null : html`<td>${one.member ? html`<${Member} name=${one.member} colour=${colours.get(one.member) ?? null} />` : html`<span class="faint">nobody</span>`}</td>`}
            <td class="share"><meter min="0" max=${most} value=${one.lag} aria-label=${`Lag of partition ${one.partition}`}></meter></td>
            <td class="number">${format.count(one.lag)}</td>
            <td class="number">${format.span(one.lag_ms)}</td>
            <td class="number">${one.committed === null ? "–" : format.count(one.committed)}</td>
            <td class="number">${format.count(one.next_offset)}</td>
            ${isShared ? html`<td class="number">${format.count(one.leased)}</td><td class="number">${format.count(one.waiting)}</td>` : null}
          </tr>`)}
        </tbody>
      </table>
      </div>
    </${Notice}>`;
}
