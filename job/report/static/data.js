// What the report holds: values and an index that are read at once, and pages of rows that are read when they are looked at.

const values = JSON.parse(document.getElementById("values").textContent);
const RUNS = values.runs;
const REASONS = values.reasons;
const CACHED_PAGES = 24;

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place += 1) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

async function unpacked(id) {
  const packed = new Blob([bytesOf(document.getElementById(id).textContent)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("deflate-raw"))).json();
}

class Rows {
  constructor(index) {
    this.index = index;
    this.length = index.rows;
    this.pages = new Map();
  }

  pageOf(position) {
    const starts = this.index.starts;
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // The rows of a page. Those looked at last stay in memory.
  page(number) {
    const found = this.pages.get(number) || unpacked(`page-${number}`);
    this.pages.delete(number);
    this.pages.set(number, found);
    if (this.pages.size > CACHED_PAGES) this.pages.delete(this.pages.keys().next().value);
    return found;
  }

  async row(position) {
    const number = this.pageOf(position);
    return rowOf((await this.page(number))[position - this.index.starts[number]], position);
  }
}

// A row as it is packed -> with names.
function rowOf([instruction, others, cells], position) {
  const named = cells.map(
    (cell) =>
      cell && {
        prompt: typeof cell[0] === "number" ? cells[cell[0]][0] : cell[0],
        promptTokens: cell[1],
        samples: cell[2].map(([text, reason, tokens]) => ({ text, reason, tokens })),
      },
  );
  return { position, instruction, others, cells: named };
}
