"use strict";
// Judgements of one's own: kept in this browser by query, locale and product, and downloaded as CSV.
(() => {
  document.documentElement.classList.add("js");
  const byId = (id) => document.getElementById(id);
  const results = byId("results");
  const STORE = "zhichun-judgements";
  const RATINGS = { E: 3, S: 2, C: 1, I: 0 };
  const plural = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

  // Storage may be forbidden; judgements then last as long as the page.
  let kept = true;
  let judgements = new Map();
  const load = () => {
    try {
      judgements = new Map(JSON.parse(localStorage.getItem(STORE) ?? "[]"));
    } catch {
      kept = false;
    }
  };
  const save = () => {
    try {
      localStorage.setItem(STORE, JSON.stringify([...judgements]));
    } catch {
      kept = false;
    }
  };
  const keyOf = (query, record) => JSON.stringify([query, record.locale, record.product_id]);

  const judge = (card, label) => {
    if (kept) load(); // another tab may have judged since
    const record = JSON.parse(card.dataset.record);
    const { query, model } = results.dataset;
    const key = keyOf(query, record);
    if (label) judgements.set(key, { query, ...record, label, model });
    else judgements.delete(key);
    save();
    show();
  };

  const show = () => {
    for (const card of results?.querySelectorAll(".card") ?? []) {
      const record = JSON.parse(card.dataset.record);
      const label = judgements.get(keyOf(results.dataset.query, record))?.label ?? "";
      for (const input of card.querySelectorAll(".judge input")) input.checked = input.value === label;
      card.querySelector(".clear").hidden = label === "";
    }
    const all = [...judgements.values()];
    const queries = new Set(all.map((one) => JSON.stringify([one.query, one.locale]))).size;
    byId("judgements-status").textContent = (all.length
      ? `${plural(all.length, "judgement", "judgements")} of ${plural(queries, "query", "queries")}.`
      : "None yet. On a result, choose the label that is right.")
      + (kept ? "" : " This browser keeps nothing: download before you leave.");
    byId("download-csv").disabled = all.length === 0;
    byId("forget").hidden = all.length === 0;
    for (const button of document.querySelectorAll(".quepid")) button.remove();
    for (const locale of [...new Set(all.map((one) => one.locale))].sort()) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quepid";
      button.textContent = `Download for Quepid, ${locale}`;
      button.addEventListener("click", () => downloadQuepid(locale));
      byId("downloads").append(button);
    }
  };

  // A text that a spreadsheet would take for a formula begins with a space, which zhichun prepare takes away again.
  const quoted = (value) => {
    const text = String(value ?? "");
    return `"${(/^[=+\-@\t\r\n]/.test(text) ? ` ${text}` : text).replaceAll('"', '""')}"`;
  };
  const csv = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const download = (name, rows) => {
    const url = URL.createObjectURL(new Blob([csv(rows)], { type: "text/csv;charset=utf-8" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  const downloadAll = () => {
    const all = [...judgements.values()];
    const classes = [...new Set(all.flatMap((one) => Object.keys(one.probabilities)))];
    const plain = ["query", "product_id", "locale", "label", "model_label", "score", "model"];
    const rows = all.map((one) => [...plain.map((name) => one[name]), ...classes.map((name) => one.probabilities[name])]);
    download("judgements.csv", [[...plain, ...classes.map((name) => `p_${name}`)], ...rows]);
  };
  const downloadQuepid = (locale) => {
    const rows = [...judgements.values()].filter((one) => one.locale === locale)
      .map((one) => [one.query, one.product_id, RATINGS[one.label]]);
    download(`judgements-${locale.replace(/\W/g, "_")}-quepid.csv`, [["query", "docid", "rating"], ...rows]);
  };

  const sayFiltered = () => {
    const chosen = results.querySelector('input[name="show"]:checked').value;
    const cards = [...results.querySelectorAll(".card")];
    const left = cards.filter((card) => !chosen || card.dataset.label === chosen);
    byId("filter-status").textContent = chosen ? `${left.length} of ${plural(cards.length, "product", "products")} shown` : "";
  };

  results?.querySelector(".reranked").addEventListener("change", (event) => {
    if (event.target.matches(".judge input")) judge(event.target.closest(".card"), event.target.value);
  });
  results?.querySelector(".reranked").addEventListener("click", (event) => {
    const button = event.target.closest(".clear");
    if (!button) return;
    button.parentElement.querySelector("input").focus();
    judge(button.closest(".card"), "");
  });
  if (results?.querySelector(".filter")) {
    results.querySelector(".filter").addEventListener("change", sayFiltered);
    sayFiltered(); // a page that is reloaded may come back filtered
  }
  byId("download-csv").addEventListener("click", downloadAll);
  byId("forget-all").addEventListener("click", () => {
    judgements.clear();
    save();
    byId("forget").open = false;
    show();
  });
  addEventListener("storage", () => {
    load();
    show();
  });
  load();
  show();
})();
