// Which member owns which partition: a row a member, a column a partition, and a token that slides when a partition changes hands.

import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, html } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { callOf, moveWords, movesBetween, ownersOf, runs } from "../lib/groups.js";

const COLUMNS_MAX = 64;
const CELL_PX_MIN = 10;
const CELL_PX_MAX = 92;
/** From this width on a column says its own number. */
const CELL_PX_NUMBERED = 25;
/** Rows drawn; the partitions of further members stand together in the last one. */
const ROWS_MAX = 48;
/** How long a member that left keeps its empty row, so that one sees where its partitions came from. */
const LINGER_MS = 4000;
const MOVED_MS = 2500;
const EVENTS_SHOWN = 4;
const WAYS_SHOWN = 6;
/** Runs of partitions that are said of one member. */
const RUNS_MAX = 12;

/** The members as rows `{name, state}`, in the order in which they were first seen; `state` is null while they are there. */
function useRows(group) {
  const seen = useRef(new Map());
  const now = Date.now();
  const present = new Map(group.members.map((one) => [one.member, one]));
  for (const name of present.keys()) seen.current.set(name, null);
  for (const [name, goneAt] of seen.current) {
    if (present.has(name)) continue;
    if (goneAt === null) seen.current.set(name, now);
    else if (now - goneAt > LINGER_MS) seen.current.delete(name);
  }
  return [...seen.current.keys()].map((name) => ({ name, state: !present.has(name) ? "left" : present.get(name).connected ? null : "away" }));
}

/** What moved lately, newest first: `[{at, generation, moves}]`. */
function useMoves(group) {
  const before = useRef(null);
  const [events, setEvents] = useState([]);
  useEffect(() => {
    const after = ownersOf(group);
    const moves = before.current === null ? [] : movesBetween(before.current, after);
    before.current = after;
    if (moves.length === 0) return;
    setEvents((now) => [{ at: Date.now(), generation: group.generation, moves }, ...now].slice(0, EVENTS_SHOWN));
  }, [group]);
  return events;
}

function useWidth(place) {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    setWidth(place.current.clientWidth);
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** Sizes in pixels for so much room: as many columns as there are partitions, up to 64, and wrapped where they do not fit. */
function measure(width, partitions, rows) {
  const label = width < 560 ? 104 : 160;
  const room = Math.max(CELL_PX_MIN * 8, width - label);
  const fitting = Math.min(COLUMNS_MAX, Math.floor(room / CELL_PX_MIN));
  // Whole eights, so that the numbers over wrapped blocks stand in one column.
  const columns = partitions <= fitting ? partitions : Math.max(8, fitting - (fitting % 8));
  const cell = Math.max(CELL_PX_MIN, Math.min(CELL_PX_MAX, Math.floor(room / columns)));
  return { label, columns, cell, row: rows <= 12 ? 34 : rows <= 24 ? 25 : 19 };
}

const OTHERS = Symbol("the members beyond the last row");
const NOBODY = Symbol("no member");

/** The rows that are drawn, and which of them a partition of `owner` stands in. */
function layOut(rows, partitions) {
  const drawn = rows.length <= ROWS_MAX ? rows : rows.slice(0, ROWS_MAX - 1);
  const shown = drawn.map(({ name, state }) => ({ id: name, name: callOf(name), title: name, state }));
  if (drawn.length < rows.length) shown.push({ id: OTHERS, name: `${rows.length - drawn.length} more`, title: "Further members", state: null });
  if (partitions.some((one) => !one.member)) shown.push({ id: NOBODY, name: "nobody", title: "No member has these now", state: null });
  const at = new Map(shown.map((row, index) => [row.id, index]));
  return { shown, rowOf: (owner) => at.get(owner ?? NOBODY) ?? at.get(OTHERS) ?? shown.length - 1 };
}

export function PartitionMap({ group, colours }) {
  const place = useRef(null);
  const width = useWidth(place);
  const rows = useRows(group);
  const events = useMoves(group);
  const size = measure(width, group.partitions.length, rows.length);
  const { shown, rowOf } = layOut(rows, group.partitions);
  const now = Date.now();
  const moved = new Set(events.filter((event) => now - event.at < MOVED_MS).flatMap((event) => event.moves.flatMap((move) => move.partitions)));
  const revoking = new Set(group.members.flatMap((one) => one.revoking ?? []));
  const blocks = [];
  for (let from = 0; from < group.partitions.length; from += size.columns) blocks.push(group.partitions.slice(from, from + size.columns));
  const draw = (one, index) => html`<${Token} key=${one.partition} one=${one} column=${index} row=${rowOf(one.member)} size=${size}
    colour=${one.member ? (colours.get(one.member) ?? null) : null} isMoved=${moved.has(one.partition)} isLeaving=${revoking.has(one.partition)} />`;
  return html`
    <${Notice} title="Who has what" className="picture" aside=${html`<${Legend} group=${group} />`}>
      <div class="map-scroll" tabindex="0" role="group" aria-label="Map of partitions and members">
      <div class="map" id="map" ref=${place} role="img" aria-label=${words(group)}>
        ${width === 0 ? null : blocks.map((block) => html`
          <div class="map-block" key=${block[0].partition} style=${{ "--cell": `${size.cell}px`, "--row": `${size.row}px`, "--label": `${size.label}px`, "--gap": size.cell < 20 ? "2px" : "5px" }}>
            <${Numbers} block=${block} size=${size} />
            <div class="map-body">
              ${shown.map((row) => html`<${Row} key=${row.id} row=${row} columns=${block.length} colour=${colours.get(row.id) ?? null} />`)}
              <div class="map-tokens">${block.map(draw)}</div>
            </div>
          </div>`)}
      </div>
      </div>
      <${Events} events=${events} />
    </${Notice}>`;
}

function words(group) {
  const owners = group.members.slice(0, 20).map((one) => `${callOf(one.member)} has ${one.partitions.length === 0 ? "none" : runs(one.partitions, RUNS_MAX)}`);
  const orphans = group.partitions.filter((one) => !one.member).map((one) => one.partition);
  if (orphans.length > 0) owners.push(`nobody has ${runs(orphans, RUNS_MAX)}`);
  return `${format.plural(group.partitions.length, "partition")} over ${format.plural(group.members.length, "member")}: ${owners.join("; ")}.`;
}

function Legend({ group }) {
  const idle = group.members.filter((one) => one.partitions.length === 0).length;
  return html`
    <p class="legend">
      <span><b>${format.count(group.partitions.length)}</b> ${group.partitions.length === 1 ? "partition" : "partitions"}</span>
      ${idle > 0 ? html`<span title="More members than partitions: they take over when another goes"><b>${format.count(idle)}</b> in reserve</span>` : null}
    </p>`;
}

function Numbers({ block, size }) {
  const every = size.cell >= CELL_PX_NUMBERED ? 1 : 8;
  return html`<div class="map-numbers">${block.map((one, index) => (index % every === 0
    ? html`<span key=${one.partition} class=${every === 1 ? "" : "map-eighth"} style=${{ left: `${index * size.cell}px` }}>${one.partition}</span>` : null))}</div>`;
}

function Row({ row, columns, colour }) {
  return html`
    <div class=${`map-row ${row.state === null ? "" : "gone"}`}>
      <span class="map-name" title=${row.title}><span class=${`key ${colour === null ? "key-none" : `key-${colour}`}`}>${row.name}</span>${row.state === null ? null : html` <i>${row.state}</i>`}</span>
      <span class="map-track" style=${{ "--columns": String(columns) }}></span>
    </div>`;
}

function Token({ one, column, row, size, colour, isMoved, isLeaving }) {
  const owner = one.member ? callOf(one.member) : "nobody";
  const classes = ["token", colour === null ? "key-none" : `key-${colour}`, isMoved ? "moved" : "", isLeaving ? "leaving" : "", one.member ? "" : "orphan"];
  return html`
    <span class=${classes.join(" ")} data-partition=${one.partition} data-member=${one.member ?? ""} style=${{ "--column": String(column), "--at": String(row) }}
      title=${`p${one.partition}: ${owner}${isLeaving ? ", being handed over" : ""}, ${format.count(one.lag)} behind`}>
      ${size.cell >= CELL_PX_NUMBERED ? one.partition : ""}</span>`;
}

/**
 * What moved, in words: for those who looked away, and for those who do not see the map. With the time and not with how long ago it was,
 * because a text that changes would be read out again.
 */
function Events({ events }) {
  return html`
    <ol class="moves" id="moves" aria-live="polite" aria-label="What moved">
      ${events.length === 0 ? html`<li class="faint">Partitions slide to their new member when somebody joins or goes.</li>` : null}
      ${events.map((event) => html`
        <li key=${event.at}><span class="faint">${format.clock(event.at).slice(0, 8)}, generation ${format.count(event.generation)}:</span>
          ${" "}${event.moves.slice(0, WAYS_SHOWN).map(moveWords).join("; ")}${event.moves.length > WAYS_SHOWN ? `; and ${event.moves.length - WAYS_SHOWN} more` : ""}</li>`)}
    </ol>`;
}
