// The page at work: filters, search, rows, keys.

const SHOWN_ROWS = 20;
const SEARCH_SLICE = 12; // milliseconds of work before the browser gets a turn
const by = (id) => document.getElementById(id);

let rows = null;
let state = stateOf(location.hash);
let matches = []; // positions of the rows that are let through, as far as the search has come
let first = 0; // of the matches, the first one in the page
let work = 0; // a number for each search: one that is not the last gives up
let drawing = 0;

async function start() {
  if (typeof DecompressionStream === "undefined") {
    by("rows").replaceChildren(element("p", { className: "empty" }, "This browser is too old to show the answers: it has no DecompressionStream."));
    return;
  }
  rows = new Rows(await unpacked("index"));
  offerChoices();
  listen();
  await show();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}

function offerChoices() {
  const seen = rows.index.reasons.reduce((bits, column) => column.reduce((all, each) => all | each, bits), 0);
  REASONS.forEach((reason, bit) => {
    if (seen & (1 << bit)) by("reason").append(element("option", { value: reason }, reason));
  });
  RUNS.forEach((label, run) => {
    for (const id of ["of", "a", "b"]) by(id).append(element("option", { value: String(run) }, label));
  });
  if (RUNS.length < 2) {
    by("compare").hidden = true;
    by("same").disabled = true;
  }
}

// Shows what the state says, from the start of the search on.
async function show() {
  fillControls();
  const search = (work += 1);
  matches = [];
  first = 0;
  const query = state.q.toLowerCase();
  if (!query) {
    matches = [...candidates(rows.index, state)];
    await settle(search, true);
    return;
  }
  await searchPages(search, query);
}

async function searchPages(search, query) {
  const wanted = [...candidates(rows.index, state)];
  let turn = performance.now();
  let drawn = false;
  for (let at = 0; at < wanted.length; ) {
    const number = rows.pageOf(wanted[at]);
    const start = rows.index.starts[number];
    const page = await rows.page(number);
    if (search !== work) return;
    for (; at < wanted.length && wanted[at] - start < page.length; at += 1) {
      if (hasText(page[wanted[at] - start], query)) matches.push(wanted[at]);
    }
    if (performance.now() - turn > SEARCH_SLICE) {
      by("count").textContent = `${told()} so far, ${Math.round((100 * at) / wanted.length)} % searched`;
      if (!drawn && matches.length >= SHOWN_ROWS && state.row === null) {
        drawn = true;
        await draw();
      }
      await new Promise((done) => setTimeout(done));
      if (search !== work) return;
      turn = performance.now();
    }
  }
  await settle(search, !drawn);
}

// The matches are complete: say so, and show the row that is asked for.
async function settle(search, redraw) {
  if (search !== work) return;
  const place = state.row === null ? 0 : matches.indexOf(state.row);
  if (place >= 0) first = place - (place % SHOWN_ROWS);
  const lost = state.row < rows.length ? `; row ${state.row} is not one of them` : `; there is no row ${state.row}`;
  by("count").textContent = told() + (place < 0 ? lost : "");
  if (redraw || first) await draw();
  else pager();
  if (state.row !== null && place >= 0) focusRow(state.row, true);
}

function told() {
  const all = counted.format(rows.length);
  return FILTERS.some((name) => state[name] !== "") ? `${counted.format(matches.length)} of ${all} rows` : `${all} rows`;
}

async function draw(open = false) {
  const mine = (drawing += 1);
  const found = await Promise.all(matches.slice(first, first + SHOWN_ROWS).map((position) => rows.row(position)));
  if (mine !== drawing) return;
  const made = found.map((row) => articleOf(row, state, open));
  const nothing = element("p", { className: "empty" }, "No rows. Widen the search or the filters.");
  by("rows").replaceChildren(...(made.length ? made : [nothing]));
  for (const instruction of by("rows").querySelectorAll(".instruction")) markIn(instruction, state.q.toLowerCase());
  foldLong(by("rows"), open);
  pager();
  markCurrent();
}

function pager() {
  const last = Math.min(first + SHOWN_ROWS, matches.length);
  by("place").textContent = matches.length ? `${counted.format(first + 1)}–${counted.format(last)}` : "";
  for (const id of ["previous", "previous-below"]) by(id).disabled = first === 0;
  for (const id of ["next", "next-below"]) by(id).disabled = last >= matches.length;
}

async function turnTo(place) {
  if (place < 0 || place >= matches.length) return;
  first = place - (place % SHOWN_ROWS);
  state.row = matches[place];
  await draw();
  focusRow(state.row, true);
  say(`Rows ${first + 1} to ${Math.min(first + SHOWN_ROWS, matches.length)} of ${matches.length}`);
}

function focusRow(position, scroll) {
  state.row = position;
  remember();
  markCurrent();
  const article = by(`row-${position}`);
  if (!article) return;
  article.focus({ preventScroll: true });
  if (scroll) article.scrollIntoView({ block: "start" });
}

function markCurrent() {
  for (const article of document.querySelectorAll(".row")) article.classList.toggle("current", article.id === `row-${state.row}`);
}

function remember() {
  const hash = hashOf(state);
  history.replaceState(null, "", hash === "#" ? location.pathname + location.search : hash);
}

function step(by_) {
  if (!matches.length) return;
  const place = matches.indexOf(state.row);
  const next = place < 0 ? first : place + by_;
  if (next < 0 || next >= matches.length) return;
  if (next < first || next >= first + SHOWN_ROWS) turnTo(next);
  else focusRow(matches[next], true);
}

function fillControls() {
  for (const id of ["q", "same", "reason", "of", "min", "max", "a", "b"]) {
    if (by(id).value !== state[id] && document.activeElement !== by(id)) by(id).value = state[id];
  }
  by("diff").checked = state.diff === "1";
  document.querySelector(`input[name=view][value=${state.view}]`).checked = true;
}

function change(changes) {
  const filters = FILTERS.some((name) => name in changes);
  state = { ...state, ...changes, ...(filters ? { row: null } : {}) };
  remember();
  fillControls();
  return filters ? show() : redraw();
}

// Draws the same rows otherwise, the current one in its place.
async function redraw() {
  const article = by(`row-${state.row}`);
  const top = article && article.getBoundingClientRect().top;
  await draw();
  const now = by(`row-${state.row}`);
  if (article && now) window.scrollBy(0, now.getBoundingClientRect().top - top);
}

function listen() {
  let typing = 0;
  by("q").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ q: by("q").value }), 200);
  });
  for (const id of ["same", "reason", "of", "min", "max", "a", "b"]) by(id).addEventListener("change", () => change({ [id]: by(id).value }));
  by("diff").addEventListener("change", () => change({ diff: by("diff").checked ? "1" : "" }));
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => change({ view: radio.value }));
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("filters").addEventListener("reset", (event) => {
    event.preventDefault();
    by("q").value = "";
    change({ ...DEFAULTS, view: state.view });
  });
  for (const id of ["previous", "previous-below"]) by(id).addEventListener("click", () => turnTo(Math.max(0, first - SHOWN_ROWS)));
  for (const id of ["next", "next-below"]) by(id).addEventListener("click", () => turnTo(first + SHOWN_ROWS));
  by("help").addEventListener("click", () => by("shortcuts").showModal());
  by("more").addEventListener("click", () => {
    const open = by("controls").classList.toggle("open");
    by("more").setAttribute("aria-expanded", String(open));
  });
  by("skip").addEventListener("click", (event) => {
    event.preventDefault();
    by("rows").focus();
  });
  by("rows").addEventListener("click", clicked);
  window.addEventListener("hashchange", () => {
    state = stateOf(location.hash);
    show();
  });
  document.addEventListener("keydown", pressed);
}

function clicked(event) {
  const article = event.target.closest(".row");
  if (!article) return;
  const position = Number(article.id.slice("row-".length));
  if (event.target.closest("h3 a")) {
    event.preventDefault();
    focusRow(position, false);
  } else if (event.target.closest(".copy-link")) copyLink(position);
}

function copyLink(position) {
  focusRow(position, false);
  copy(location.href, "Link");
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: () => turnTo(first + SHOWN_ROWS),
  p: () => turnTo(Math.max(0, first - SHOWN_ROWS)),
  d: () => RUNS.length > 1 && change({ diff: state.diff ? "" : "1" }),
  r: () => change({ view: state.view === "raw" ? "rendered" : "raw" }),
  e: () => by(`row-${state.row}`)?.querySelectorAll(".fold:not([hidden])").forEach((button) => button.click()),
  l: () => state.row !== null && copyLink(state.row),
  "/": () => by("q").select() || by("q").focus(),
  "?": () => by("shortcuts").showModal(),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || by("shortcuts").open) return;
  const typing = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

start();
