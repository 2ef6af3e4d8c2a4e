// Two texts, word by word: what the one has that the other has not. Myers' algorithm, with an end to how long it may take.

const MOST_CHANGES = 1500; // beyond, the texts have too little in common for this to be of use; also bounds the memory
const MOST_STEPS = 5e6;
// A word, a letter of a script without spaces between words, white space, or one sign.
const WORDS = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}_]+|\s+|[^]/gu;

// Parts of both texts, in order, as [text, whether the other lacks it]; whole: false where the middle was not compared.
function compared(one, other) {
  const a = one.match(WORDS) || [];
  const b = other.match(WORDS) || [];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const middleA = a.slice(start, a.length - end);
  const middleB = b.slice(start, b.length - end);
  const kept = common(middleA, middleB);
  const [keptA, keptB] = kept || [new Set(), new Set()];
  return {
    a: joined(a, start, end, keptA),
    b: joined(b, start, end, keptB),
    whole: kept !== null,
  };
}

function joined(words, start, end, kept) {
  const parts = [];
  words.forEach((word, place) => {
    const changed = place >= start && place < words.length - end && !kept.has(place - start);
    const last = parts[parts.length - 1];
    if (last && last[1] === changed) last[0].push(word);
    else parts.push([[word], changed]);
  });
  return bridged(parts.map(([texts, changed]) => [texts.join(""), changed]));
}

// White space between two changes is a part of them: else each word would stand alone.
function bridged(parts) {
  const made = [];
  parts.forEach(([text, changed], place) => {
    const between = !changed && !text.trim() && made.length && made[made.length - 1][1] && parts[place + 1]?.[1];
    const last = made[made.length - 1];
    if (last && last[1] === (changed || Boolean(between))) last[0] += text;
    else made.push([text, changed || Boolean(between)]);
  });
  return made;
}

// The places of a longest common sequence in both, null where looking for it takes too long.
function common(a, b) {
  const trace = [];
  const most = Math.min(MOST_CHANGES, a.length + b.length);
  let ends = new Int32Array(2 * most + 3);
  const middle = most + 1;
  let steps = 0;
  for (let changes = 0; changes <= most; changes += 1) {
    trace.push(ends.slice(middle - changes - 1, middle + changes + 2));
    for (let line = -changes; line <= changes; line += 2) {
      const down = line === -changes || (line !== changes && ends[middle + line - 1] < ends[middle + line + 1]);
      let x = down ? ends[middle + line + 1] : ends[middle + line - 1] + 1;
      let y = x - line;
      while (x < a.length && y < b.length && a[x] === b[y]) {
        x += 1;
        y += 1;
      }
      steps += 1;
      ends[middle + line] = x;
      if (x >= a.length && y >= b.length) return walkedBack(trace, a.length, b.length);
    }
    if (steps > MOST_STEPS) return null;
  }
  return null;
}

function walkedBack(trace, lengthA, lengthB) {
  const inA = new Set();
  const inB = new Set();
  let x = lengthA;
  let y = lengthB;
  for (let changes = trace.length - 1; changes >= 0; changes -= 1) {
    const ends = trace[changes];
    const at = (line) => ends[line + changes + 1];
    const line = x - y;
    const down = line === -changes || (line !== changes && at(line - 1) < at(line + 1));
    const before = down ? line + 1 : line - 1;
    const startX = changes === 0 ? 0 : at(before);
    const startY = changes === 0 ? 0 : startX - before;
    while (x > startX && y > startY) {
      x -= 1;
      y -= 1;
      inA.add(x);
      inB.add(y);
    }
    x = startX;
    y = startY;
  }
  return [inA, inB];
}

// One side of a comparison, as elements.
function sideOf(parts, name) {
  const made = document.createDocumentFragment();
  for (const [text, changed] of parts) made.append(changed ? element(name, {}, shown(text)) : shown(text));
  return made;
}
