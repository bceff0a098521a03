/* Writing into the document. All text goes through textContent: an alias or a symbol is never markup. */

export const byId = (id) => document.getElementById(id);

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/* Writes only what differs, so that a selection, a focus and a screen reader are left in peace. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function dress(node, className) {
  if (node.className !== className) node.className = className;
}

export function levelChip(level) {
  return element("span", "level " + level, level);
}

/* cell: a text, or { text, className, unit, level, below, bar, href, press, problem }. below: a second, smaller line;
   bar: a fraction; press: [what a screen reader says, what it does]; problem: why that could not be done.
   Nodes are made anew only for another kind of content: a button that were replaced under the finger would lose the press. */
export function writeCell(td, cell, numeric) {
  const given = typeof cell === "object" ? cell : { text: cell };
  dress(td, [numeric ? "n" : "", given.className || ""].join(" ").trim());
  if (given.press) td.press = given.press[1];
  const label = given.press ? given.press[0] : "";
  const kind = [given.level, given.href, label, ...PARTS.map((part) => Boolean(given[part])), given.bar !== undefined].join("\u0000");
  if (td.kind !== kind) {
    const hadFocus = td.contains(document.activeElement);
    td.kind = kind;
    td.parts = {};
    td.replaceChildren(...content(td, given, label));
    if (hadFocus) td.querySelector("button, a")?.focus({ preventScroll: true });
  }
  for (const part of PARTS) if (td.parts[part]) write(td.parts[part], given[part]);
  if (td.parts.bar) td.parts.bar.style.width = barWidth(given.bar);
}

const PARTS = ["text", "unit", "below", "problem"];

function content(td, given, label) {
  const nodes = [];
  const add = (node, part, shown = node) => {
    if (part) td.parts[part] = shown;
    nodes.push(node);
  };
  if (given.level) add(levelChip(given.level));
  else if (given.href) add(link(given.href), "text");
  else if (given.text) add(document.createTextNode(""), "text");
  if (given.unit) add(element("span", "unit"), "unit");
  if (given.below) add(element("small"), "below");
  if (label) {
    const button = element("button", "", label.split(":")[0]);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => td.press());
    add(button);
  }
  if (given.problem) {
    const small = element("small", "bad");
    small.setAttribute("role", "alert");
    add(small, "problem");
  }
  if (given.bar !== undefined) {
    const bar = element("i");
    add(element("span", "gauge", bar), "bar", bar);
  }
  return nodes;
}

function link(href) {
  const made = element("a");
  made.href = href;
  return made;
}

const barWidth = (fraction) => 100 * Math.min(1, Math.max(0, fraction || 0)) + "%";

/* A whole small table: columns are [title, numeric?], rows are { key, cells }. A row keeps its nodes wherever it goes. */
export function fillTable(table, columns, rows, empty) {
  if (!table.tHead) {
    const line = table.createTHead().insertRow();
    for (const [title, numeric] of columns) {
      const th = element("th", numeric ? "n" : "", title);
      th.scope = "col";
      line.append(th);
    }
    table.createTBody();
    table.lines = new Map();
  }
  const shown = rows.length ? rows : [{ key: "", cells: [{ text: empty, className: "empty" }] }];
  const lines = new Map();
  for (const { key, cells } of shown) {
    const line = table.lines.get(key) || element("tr");
    lines.set(key, line);
    cells.forEach((cell, j) => {
      const td = line.cells[j] || line.insertCell();
      td.dataset.label = columns[j][0];
      writeCell(td, cell, rows.length > 0 && columns[j][1]);
    });
    if (!rows.length) line.cells[0].colSpan = columns.length;
  }
  const same = lines.size === table.lines.size && [...lines.keys()].every((key) => table.lines.has(key));
  table.lines = lines;
  if (same && table.tBodies[0].matches(":hover")) return; // whoever is about to press a row presses that row
  inOrder(table.tBodies[0], [...lines.values()]);
}

/* Makes `wanted` the children of a node and moves no more of them than it must; the focus stays where it is. */
export function inOrder(parent, wanted) {
  const focused = document.activeElement;
  const stay = new Set(wanted);
  for (const node of [...parent.children]) if (!stay.has(node)) node.remove();
  wanted.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] || null);
  });
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/* A list or a <dl>: one child per item; show(node, item) writes it. */
export function fillList(list, items, make, show) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  items.forEach((item, i) => show(list.children[i] || list.appendChild(make()), item));
}

export function fillFacts(list, facts) {
  fillList(list, facts, () => element("div", "", element("dt"), element("dd")), (fact, [name, value, note]) => {
    write(fact.firstChild, name);
    writeCell(fact.lastChild, { ...(typeof value === "object" ? value : { text: value }), below: note });
  });
}
