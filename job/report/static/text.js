// Texts into the page. Whatever a model wrote gets there as text and in no other way.

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Characters that cannot be seen, or that turn the text around them: shown by their numbers.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;
const MOST_SHOWN = 500;

function shown(text) {
  const made = document.createDocumentFragment();
  let end = 0;
  let count = 0;
  for (const found of text.matchAll(UNSEEN)) {
    if ((count += 1) > MOST_SHOWN) break;
    if (found[0] === "\r" && text[found.index + 1] === "\n") continue;
    made.append(text.slice(end, found.index));
    const number = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    made.append(element("span", { className: "control", title: "a character that cannot be seen" }, `U+${number}`));
    end = found.index + found[0].length;
  }
  made.append(text.slice(end));
  return made;
}

const MOST_MARKS = 200;

// Mark what was searched for, in the text that is in the page already.
function markIn(root, query) {
  if (!query) return;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  let marks = 0;
  for (const node of nodes) {
    const lower = node.data.toLowerCase();
    if (lower.length !== node.data.length) continue; // some letters are longer in lower case: places would not fit
    const places = [];
    for (let at = lower.indexOf(query); at >= 0 && marks < MOST_MARKS; at = lower.indexOf(query, at + query.length)) {
      places.push(at);
      marks += 1;
    }
    for (const at of places.reverse()) {
      const rest = node.splitText(at);
      rest.splitText(query.length);
      const mark = element("mark");
      rest.replaceWith(mark);
      mark.append(rest);
    }
  }
}

const counted = new Intl.NumberFormat("en");

function say(text) {
  document.getElementById("said").textContent = text;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`${what} copied`);
}
