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

/* cell: a text, or { text, className, unit, level, below, bar, href, press }. below: a second, smaller line; bar: a fraction;
   press: [what a screen reader says, what it does]. */
export function writeCell(td, cell, numeric) {
  const given = typeof cell === "object" ? cell : { text: cell };
  dress(td, [numeric ? "n" : "", given.className || ""].join(" ").trim());
  if (td.bar) td.bar.style.width = barWidth(given.bar);
  if (given.press) td.press = given.press[1];
  const label = given.press ? given.press[0] : "";
  const signature = [given.text, given.unit, given.level, given.below, given.href, label, given.bar !== undefined].join("\u0000");
  if (td.signature === signature) return;
  const hadFocus = td.contains(document.activeElement);
  td.signature = signature;
  td.replaceChildren(...content(td, given, label));
  if (hadFocus) td.querySelector("button, a")?.focus({ preventScroll: true });
}

function content(td, given, label) {
  const parts = [];
  if (given.level) parts.push(levelChip(given.level));
  else if (given.href) parts.push(link(given.href, given.text));
  else if (given.text) parts.push(given.text);
  if (given.unit) parts.push(element("span", "unit", given.unit));
  if (given.below) parts.push(element("small", "", given.below));
  if (label) {
    const button = element("button", "", label.split(":")[0]);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => td.press());
    parts.push(button);
  }
  td.bar = null;
  if (given.bar !== undefined) {
    td.bar = element("i", "");
    td.bar.style.width = barWidth(given.bar);
    parts.push(element("span", "gauge", td.bar));
  }
  return parts;
}

function link(href, text) {
  const made = element("a", "", text);
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
  table.lines = lines;
  inOrder(table.tBodies[0], [...lines.values()]);
}

/* Makes `wanted` the children of a node and moves no more of them than it must; the focus stays where it is. */
export function inOrder(parent, wanted) {
  const focused = document.activeElement;
  wanted.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] || null);
  });
  while (parent.children.length > wanted.length) parent.lastElementChild.remove();
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/* A list or a <dl>: one child per item; show(node, item) writes it. */
export function fillList(list, items, make, show) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  items.forEach((item, i) => show(list.children[i] || list.appendChild(make()), item));
}

export function fillFacts(list, facts) {
  fillList(list, facts, () => element("div", "", element("dt"), element("dd")), (fact, [name, value, className, note]) => {
    write(fact.firstChild, name);
    const dd = fact.lastChild;
    dress(dd, className || "");
    writeCell(dd, { ...(typeof value === "object" ? value : { text: value }), below: note });
  });
}
