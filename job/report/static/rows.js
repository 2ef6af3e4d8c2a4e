// One row in the page: its instruction, and the answers of the runs beside each other.

const FOLDED_CHARACTERS = 5000; // of a longer answer, only so much is put into the page until all of it is asked for
const FOLDED_HEIGHT = 560; // in pixels: a good deal more than what is left of it, so that unfolding is worth it
const LONGEST_RENDERED = 300000;

function articleOf(row, state, open) {
  const name = `row ${row.position}`;
  const link = element("a", { href: hashOf({ ...state, row: row.position }), title: "Link to this row" }, `#${row.position}`);
  const extra = more(row);
  const header = element(
    "header",
    {},
    element("h3", { id: `title-${row.position}` }, element("span", { className: "hidden" }, "Row "), link),
    element("div", { className: "instruction", dir: "auto" }, shown(row.instruction)),
    element("div", { className: "tools" }, moreButton(extra, name), linkButton(name)),
    extra,
  );
  const cells = element("div", { className: "cells" });
  const sides = comparison(row, state);
  row.cells.forEach((cell, run) => cells.append(cellOf(row, cell, run, state, sides, open)));
  return element(
    "article",
    { className: "row", id: `row-${row.position}`, tabIndex: -1, "aria-labelledby": `title-${row.position}` },
    header,
    cells,
  );
}

function linkButton(name) {
  return element("button", { type: "button", className: "small copy-link", "aria-label": `Copy a link to ${name}` }, "Link");
}

function moreButton(extra, name) {
  const properties = { type: "button", className: "small", "aria-label": `More of ${name}`, "aria-expanded": "false" };
  const button = element("button", properties, "More");
  button.addEventListener("click", () => {
    extra.hidden = !extra.hidden;
    extra.fill();
    button.setAttribute("aria-expanded", String(!extra.hidden));
  });
  return button;
}

// The other columns of the source, and the prompts. They are put into the page when they are asked for.
function more(row) {
  const parts = Object.entries(row.others);
  const prompts = row.cells.map((cell) => cell && cell.prompt);
  const first = prompts.find((prompt) => prompt !== null);
  if (prompts.every((prompt) => prompt === null || prompt === first)) parts.push(["prompt", first]);
  else prompts.forEach((prompt, run) => parts.push([`prompt of ${RUNS[run]}`, prompt]));
  const extra = element("div", { className: "extra", hidden: true });
  extra.fill = () => {
    if (extra.hasChildNodes()) return;
    for (const [name, text] of parts.filter(([, each]) => each !== null && each !== undefined)) {
      extra.append(element("h4", { dir: "auto" }, name), element("pre", { dir: "auto", tabIndex: 0 }, shown(text)));
    }
  };
  return extra;
}

// What the two chosen runs have that the other has not, sample by sample; null where nothing is to be compared.
function comparison(row, state) {
  const [a, b] = [Number(state.a), Number(state.b)];
  if (!state.diff || a === b || !row.cells[a] || !row.cells[b]) return null;
  const pairs = row.cells[a].samples.map((sample, place) => {
    const other = row.cells[b].samples[place];
    return other && sample.text !== null && other.text !== null ? compared(sample.text, other.text) : null;
  });
  return { a, b, pairs };
}

function cellOf(row, cell, run, state, sides, open) {
  const made = element("section", { className: `cell m${run % 8}`, "aria-label": `${RUNS[run]}, row ${row.position}` });
  const header = element("header", {}, element("h4", { dir: "auto" }, RUNS[run]));
  made.append(header);
  if (!cell) {
    made.append(element("p", { className: "none" }, "This run has no such row."));
    return made;
  }
  const several = cell.samples.length > 1;
  cell.samples.forEach((sample, place) => {
    const facts = [
      element("span", { className: `badge ${REASONS.includes(sample.reason) ? sample.reason : ""}` }, sample.reason),
      element("span", { className: "tokens" }, `${counted.format(sample.tokens)} ${sample.tokens === 1 ? "token" : "tokens"}`),
      copyButton(sample, RUNS[run]),
    ];
    const holder = element("div", { className: "sample" });
    const told = element("span", { className: "facts" }, ...facts.filter(Boolean));
    if (several) holder.append(element("header", {}, `Sample ${place + 1}`, told));
    else header.append(told);
    const parts = sides && sides.pairs[place];
    const side = parts && run === sides.a ? "a" : parts && run === sides.b ? "b" : null;
    holder.append(...answerOf(sample, state, side && { parts: parts[side], name: side === "a" ? "del" : "ins", whole: parts.whole }, open));
    made.append(holder);
  });
  return made;
}

function copyButton(sample, run) {
  if (sample.text === null) return null;
  const button = element("button", { type: "button", className: "small", "aria-label": `Copy the answer of ${run}` }, "Copy");
  button.addEventListener("click", async () => {
    await copy(sample.text, "Answer");
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

function answerOf(sample, state, side, open) {
  if (sample.text === null) return [element("p", { className: "none" }, "No answer.")];
  if (sample.text === "") return [element("p", { className: "none" }, "An empty answer.")];
  const answer = element("div", { className: "answer", dir: "auto" });
  const long = sample.text.length > FOLDED_CHARACTERS;
  fill(answer, sample.text, state, side, long && !open);
  const made = side && !side.whole ? [element("p", { className: "none" }, "Too different to be compared word by word.")] : [];
  const button = element("button", { type: "button", className: "small fold", hidden: true, "aria-expanded": "false" });
  const toggle = (folded) => {
    if (long) fill(answer, sample.text, state, side, folded);
    answer.classList.toggle("folded", folded);
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = folded ? `Show all (${counted.format(sample.text.length)} characters)` : "Show less";
  };
  button.addEventListener("click", () => toggle(!answer.classList.contains("folded")));
  answer.toggle = toggle;
  answer.fold = button;
  return [...made, answer, button];
}

function fill(answer, text, state, side, cut) {
  const part = cut ? text.slice(0, FOLDED_CHARACTERS) : text;
  const raw = state.view === "raw" || text.length > LONGEST_RENDERED;
  answer.classList.toggle("compared", Boolean(side));
  answer.classList.toggle("raw", raw);
  answer.classList.toggle("rendered", !raw && !side);
  answer.replaceChildren(side ? sideOf(side.parts, side.name) : raw ? shown(part) : rendered(part));
  markIn(answer, state.q.toLowerCase());
}

// Fold the answers that are long on this screen. After they are in the page: only then they have a height.
function foldLong(container, open) {
  const tall = [...container.querySelectorAll(".answer")].filter((answer) => answer.scrollHeight > FOLDED_HEIGHT);
  for (const answer of tall) {
    answer.fold.hidden = false;
    answer.toggle(!open);
  }
}
