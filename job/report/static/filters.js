// What is looked at: kept in the address after #, so that a link leads to the same view.

const DEFAULTS = { row: null, q: "", same: "", reason: "", of: "", min: "", max: "", view: "rendered", diff: "", a: "0", b: "1" };
const FILTERS = ["q", "same", "reason", "of", "min", "max"];

// Only values that mean something get through: the address may come from anyone.
function stateOf(hash) {
  const state = { ...DEFAULTS };
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const isRun = (value) => /^\d+$/.test(value) && Number(value) < RUNS.length;
  const valid = {
    row: (value) => /^\d{1,9}$/.test(value),
    q: () => true,
    same: (value) => ["identical", "differing"].includes(value),
    reason: (value) => REASONS.includes(value),
    of: isRun,
    min: (value) => /^\d{1,9}$/.test(value),
    max: (value) => /^\d{1,9}$/.test(value),
    view: (value) => value === "raw",
    diff: (value) => value === "1",
    a: isRun,
    b: isRun,
  };
  for (const [name, isValid] of Object.entries(valid)) {
    if (given.has(name) && isValid(given.get(name))) state[name] = given.get(name);
  }
  if (state.row !== null) state.row = Number(state.row);
  return state;
}

function hashOf(state) {
  const kept = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name] && value !== null);
  return `#${new URLSearchParams(kept.map(([name, value]) => [name, String(value)]))}`;
}

// Positions of the rows that the index lets through; what is searched for is not in it.
function* candidates(index, state) {
  const runs = state.of === "" ? RUNS.map((_, run) => run) : [Number(state.of)];
  const bit = state.reason === "" ? 0 : 1 << REASONS.indexOf(state.reason);
  const min = state.min === "" ? -1 : Number(state.min);
  const max = state.max === "" ? Infinity : Number(state.max);
  const bounded = state.min !== "" || state.max !== "";
  for (let position = 0; position < index.rows; position += 1) {
    const letters = index.groups[position];
    const alike = letters === letters[0].repeat(letters.length);
    if (state.same === "identical" && !alike) continue;
    if (state.same === "differing" && alike) continue;
    const fits = (run) => {
      const tokens = index.tokens[run][position];
      return (!bit || index.reasons[run][position] & bit) && (!bounded || (tokens >= 0 && tokens >= min && tokens <= max));
    };
    if (runs.some(fits)) yield position;
  }
}

function hasText(row, query) {
  const [instruction, , cells] = row;
  if (instruction.toLowerCase().includes(query)) return true;
  return cells.some((cell) => cell && cell[2].some(([text]) => text !== null && text.toLowerCase().includes(query)));
}
