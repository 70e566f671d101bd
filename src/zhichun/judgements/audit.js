"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("issues").textContent);
  const pairs = data.rows.map((row) => Object.fromEntries(data.columns.map((name, i) => [name, row[i]])));
  const labels = Object.keys(data.labels);
  const folded = (text) => text.normalize("NFKC").toLowerCase();
  const searched = ["query", "product_title", "product_brand", "product_id"];
  for (const pair of pairs) pair.text = folded(searched.map((name) => pair[name] ?? "").join("\n"));

  // Decisions: those of the file, then those that this browser kept. Storage may be forbidden for local files.
  const storeKey = `zhichun-audit-${data.key}`;
  let decided = new Map(Object.entries(data.decided));
  let kept = true;
  try {
    const stored = JSON.parse(localStorage.getItem(storeKey) ?? "[]");
    decided = new Map([...decided, ...stored]);
  } catch {
    kept = false;
  }
  const shownIds = new Set(pairs.map((pair) => String(pair.example_id)));
  const decisionOf = (pair) => decided.get(String(pair.example_id)) ?? "";
  let unsaved = false;

  const decide = (pair, what) => {
    decided.set(String(pair.example_id), what);
    unsaved = true;
    try {
      localStorage.setItem(storeKey, JSON.stringify([...decided]));
    } catch {
      kept = false;
    }
    byId(`pair-${pair.example_id}`).classList.toggle("decided", what !== "");
    say();
  };
  addEventListener("beforeunload", (event) => {
    if (unsaved && !kept) event.preventDefault();
  });

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  const choice = (pair, value, said) => {
    const input = element("input", { type: "radio", name: `decision-${pair.example_id}`, value });
    input.checked = decisionOf(pair) === value;
    input.addEventListener("change", () => decide(pair, value));
    return element("label", {}, input, said);
  };

  const item = (pair, number) => {
    const lang = data.languages[pair.product_locale];
    const given = pair.esci_label;
    const heading = `query-${pair.example_id}`;
    const text = (name) => pair[name] ?? "";
    const product = element("p", { lang }, element("strong", {}, text("product_title") || "(no title)"));
    const facts = [text("product_brand"), text("product_color"), pair.product_id, pair.product_locale];
    const chances = labels.map((label) => {
      const share = pair[`p_${label}`];
      const bar = element("span", { class: "bar", style: `--share:${share}`, "aria-hidden": "true" });
      return element("li", {}, `${data.labels[label]} ${share.toFixed(2)}`, bar);
    });
    const more = ["product_bullet_point", "product_description"].map(text).filter(Boolean);
    const choices = [["", "open"], ["keep", `keep ${given}`], ...labels.filter((label) => label !== given)
      .map((label) => [label, data.labels[label]]), ["drop", "drop"]];
    const legend = element("legend", { class: "unseen" }, `Decision on ${pair.query}: ${text("product_title")}`);
    const made = element("li", { class: "pair", id: `pair-${pair.example_id}`, "aria-labelledby": heading },
      element("h3", { id: heading, lang }, pair.query),
      product,
      element("p", {}, element("small", {}, facts.filter(Boolean).join(" · "))),
      element("p", {}, element("small", {}, `${number}. `), "given ",
        element("span", { class: "labels" }, data.labels[given]), ", likely ",
        element("span", { class: "labels" }, data.labels[pair.likely_label]),
        element("small", {}, `  quality ${pair.quality.toFixed(3)}`)),
      element("ul", { class: "chances", "aria-label": "Probabilities" }, ...chances));
    if (more.length) {
      const texts = more.map((each) => element("p", { lang }, each));
      made.append(element("details", { class: "texts" }, element("summary", {}, "Bullets and description"), ...texts));
    }
    made.append(element("fieldset", {}, legend, ...choices.map(([value, said]) => choice(pair, value, said))));
    made.classList.toggle("decided", decisionOf(pair) !== "");
    made.addEventListener("keydown", (event) => press(event, pair, made));
    return made;
  };

  // A letter decides and moves on, as long as the focus is on a decision: nothing else is typed there.
  const letters = { k: "keep", d: "drop", u: "", ...Object.fromEntries(labels.map((l) => [l.toLowerCase(), l])) };
  const press = (event, pair, made) => {
    const what = letters[event.key.toLowerCase()];
    const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
    if (what === undefined || !plain || event.target.type !== "radio") return;
    event.preventDefault();
    const value = what === pair.esci_label ? "keep" : what;
    made.querySelector(`input[value="${value}"]`).checked = true;
    decide(pair, value);
    const next = made.nextElementSibling ?? made;
    (next.querySelector("input:checked") ?? next.querySelector("input")).focus();
    next.scrollIntoView({ block: "nearest" });
  };

  let found = pairs;
  let first = 0;
  const size = () => Number(byId("size").value);
  const count = (number) => number.toLocaleString("en");

  const say = () => {
    const done = [...decided].filter(([, what]) => what).length;
    byId("status").textContent = `${count(found.length)} of ${count(pairs.length)} pairs; ${count(done)} decided`
      + (kept ? "" : " (this browser keeps nothing: download before you leave)");
    byId("download").disabled = done === 0;
  };

  const show = () => {
    byId("pairs").replaceChildren(...found.slice(first, first + size()).map((pair, i) => item(pair, first + i + 1)));
    const last = Math.min(first + size(), found.length);
    byId("place").textContent = found.length ? `${count(first + 1)} to ${count(last)} of ${count(found.length)}` : "none";
    byId("previous").disabled = first === 0;
    byId("next").disabled = last >= found.length;
    say();
  };

  const filter = () => {
    const [locale, given, likely, state] = ["locale", "given", "likely", "state"].map((id) => byId(id).value);
    const words = folded(byId("text").value).split(/\s+/).filter(Boolean);
    found = pairs.filter((pair) =>
      (!locale || pair.product_locale === locale)
      && (!given || pair.esci_label === given)
      && (!likely || pair.likely_label === likely)
      && (!state || (state === "decided") === (decisionOf(pair) !== ""))
      && words.every((word) => pair.text.includes(word)));
    first = 0;
    show();
  };

  const turn = (pages) => {
    first += pages * size();
    show();
    byId("pairs").focus();
    byId("pairs").scrollIntoView();
  };

  const download = () => {
    const columns = ["example_id", "query", "product_id", "product_locale", "esci_label"];
    const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;
    const lines = [[...columns, "decision"].map(quoted).join(",")];
    for (const pair of pairs) {
      if (decisionOf(pair)) lines.push([...columns.map((name) => pair[name]), decisionOf(pair)].map(quoted).join(","));
    }
    for (const [example, what] of decided) {
      if (what && !shownIds.has(example)) lines.push([example, "", "", "", "", what].map(quoted).join(","));
    }
    const url = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    element("a", { href: url, download: "decisions.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
    unsaved = false;
  };

  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
  document.querySelector(".filters").addEventListener("input", filter);
  byId("size").value = "25";
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("download").addEventListener("click", download);
  filter();
})();
