// Markdown as models write it -> elements, made one by one. HTML in it stays text, and so do links and images.

const DEEPEST = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)(?:[-*+•]|(\d{1,9})[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}>\s?/;
const DIVIDER = /^ {0,3}\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$/;
// Code, bold, italic, struck, a link or image. Each part has an end in sight, so that no text takes long.
const INLINE = new RegExp(
  [
    "(?<tick>`{1,2})(?<code>[^`\\n]{1,1000})\\k<tick>",
    "\\*\\*(?=\\S)(?<bold>[^\\n]{1,1000}?)(?<=\\S)\\*\\*",
    "(?<![\\p{L}\\p{N}_])__(?=\\S)(?<bold2>[^_\\n]{1,1000}?)__(?![\\p{L}\\p{N}_])",
    "\\*(?=[^\\s*])(?<italic>[^*\\n]{1,1000}?)(?<=\\S)\\*",
    "(?<![\\p{L}\\p{N}_])_(?=[^\\s_])(?<italic2>[^_\\n]{1,1000}?)(?<=\\S)_(?![\\p{L}\\p{N}_])",
    "~~(?=\\S)(?<struck>[^~\\n]{1,1000}?)~~",
    "!?\\[(?<label>[^\\]\\n]{0,300})\\]\\((?<target>[^)\\n]{0,600})\\)",
  ].join("|"),
  "gu",
);

function rendered(text) {
  const made = document.createDocumentFragment();
  blocks(made, text.replace(/\r\n?/g, "\n").split("\n"), 0);
  return made;
}

function blocks(parent, lines, depth) {
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) at += 1;
    else at = block(parent, lines, at, depth);
  }
}

// Adds the block that begins at a line. Returns the line after it.
function block(parent, lines, at, depth) {
  const line = lines[at];
  const deep = depth >= DEEPEST;
  if (FENCE.test(line)) return fenced(parent, lines, at);
  const heading = HEADING.exec(line);
  if (heading) {
    parent.append(inlined(element(`h${Math.min(6, heading[1].length + 3)}`, { dir: "auto" }), heading[2]));
    return at + 1;
  }
  if (RULE.test(line)) {
    parent.append(element("hr"));
    return at + 1;
  }
  if (!deep && QUOTE.test(line)) return quoted(parent, lines, at, depth);
  if (!deep && ITEM.test(line)) return listed(parent, lines, at, depth);
  if (line.includes("|") && DIVIDER.test(lines[at + 1] || "")) return tabled(parent, lines, at);
  return paragraph(parent, lines, at, deep);
}

function fenced(parent, lines, at) {
  const mark = FENCE.exec(lines[at])[1];
  let end = at + 1;
  while (end < lines.length && !(lines[end].trim().startsWith(mark) && !lines[end].trim().replaceAll(mark[0], ""))) end += 1;
  const code = element("code", {}, shown(lines.slice(at + 1, end).join("\n")));
  parent.append(element("pre", { tabIndex: 0, dir: "ltr" }, code));
  return end + 1;
}

function quoted(parent, lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const quote = element("blockquote", { dir: "auto" });
  blocks(quote, lines.slice(at, end).map((line) => line.replace(QUOTE, "")), depth + 1);
  parent.append(quote);
  return end;
}

// Items of one list; what is indented below one belongs to it.
function listed(parent, lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const ordered = first[2] !== undefined;
  const list = element(ordered ? "ol" : "ul", { dir: "auto" });
  if (ordered) list.start = Number(first[2]);
  let next = at;
  while (next < lines.length) {
    const item = ITEM.exec(lines[next]);
    if (!item || item[1].length > first[1].length + 1 || (item[2] !== undefined) !== ordered || RULE.test(lines[next])) break;
    const [inner, end] = belongings(lines, next + 1, item[1].length);
    const made = element("li"); // the list has the direction: with one of its own, an item would not count for that
    inlined(made, item[3]);
    blocks(made, inner, depth + 1);
    list.append(made);
    next = end;
  }
  parent.append(list);
  return next;
}

function belongings(lines, from, indent) {
  let end = from;
  let inside = from;
  while (end < lines.length) {
    const line = lines[end];
    if (line.trim() && line.length - line.trimStart().length <= indent) break;
    end += 1;
    if (line.trim()) inside = end;
  }
  let next = inside;
  while (next < lines.length && !lines[next].trim()) next += 1;
  const goesOn = next < lines.length && ITEM.test(lines[next]);
  const cut = new RegExp(`^\\s{1,${indent + 3}}`);
  return [lines.slice(from, inside).map((line) => line.replace(cut, "")), goesOn ? next : inside];
}

function tabled(parent, lines, at) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|");
  const made = (line, name) => {
    const row = element("tr");
    for (const cell of cells(line)) row.append(inlined(element(name, { dir: "auto" }), cell.trim()));
    return row;
  };
  const body = element("tbody");
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) body.append(made(lines[end++], "td"));
  parent.append(element("table", {}, element("thead", {}, made(lines[at], "th")), body));
  return end;
}

function paragraph(parent, lines, at, deep) {
  const begins = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || (!deep && (ITEM.test(line) || QUOTE.test(line)));
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !begins(lines[end])) end += 1;
  parent.append(inlined(element("p", { dir: "auto" }), lines.slice(at, end).join("\n")));
  return end;
}

function inlined(parent, text, depth = 0) {
  let end = 0;
  for (const found of depth < DEEPEST ? text.matchAll(INLINE) : []) {
    parent.append(shown(text.slice(end, found.index)), span(found, depth));
    end = found.index + found[0].length;
  }
  parent.append(shown(text.slice(end)));
  return parent;
}

function span(found, depth) {
  const part = found.groups;
  if (part.code !== undefined) return element("code", {}, shown(part.code));
  const bold = part.bold ?? part.bold2;
  if (bold !== undefined) return inlined(element("strong"), bold, depth + 1);
  const italic = part.italic ?? part.italic2;
  if (italic !== undefined) return inlined(element("em"), italic, depth + 1);
  if (part.struck !== undefined) return inlined(element("s"), part.struck, depth + 1);
  return element("span", {}, shown(part.label), element("span", { className: "link" }, " (", shown(part.target), ")"));
}
