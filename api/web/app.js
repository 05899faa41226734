// The page: takes a key and a file, shows how far the work is, lands on the report.

import { cancel, key, look, page, Problem, submit } from "./api.js";

const at = (id) => document.getElementById(id);
const ENDED = new Set(["completed", "failed", "canceled"]);
const STAGES = { extract: "Read the file, find faces and voices", video: "Look at the faces", audio: "Listen to the sound",
  fuse: "Weigh the evidence", stability: "Judge re-encoded copies" };
const STATES = { pending: "waiting", running: "at work", done: "done", failed: "failed", skipped: "left out" };
const LONGEST_PAUSE = 15; // seconds between two tries to reach a server that is away
const SIGNS = { pending: "○", running: "◐", done: "●", failed: "✕", skipped: "–" };

let going = null; // of the analysis that is shown: { stop: AbortController, id }
let address = null; // of the report's blob
let chosen = null; // a file that waits for the key

function show(...sections) {
  for (const id of ["start", "problem", "work", "result", "about"]) at(id).hidden = !sections.includes(id);
}

function showKey() {
  const known = key.get();
  at("key-form").hidden = Boolean(known);
  at("key-known").hidden = !known;
  at("key-hint").textContent = known ? `${known.slice(0, 11)}…` : "";
}

function complain(problem) {
  if (problem.status === 401) {
    key.forget();
    showKey();
  }
  at("problem-title").textContent = problem.title ?? "Something went wrong in this page";
  at("problem-detail").textContent = problem.message;
  at("problem-code").textContent = problem.code ?? "";
  show("start", "problem", "about");
  at("problem").focus();
}

function line(state, name, words) {
  const item = document.createElement("li");
  const sign = document.createElement("span");
  sign.className = "sign";
  sign.setAttribute("aria-hidden", "true");
  sign.textContent = SIGNS[state] ?? SIGNS.pending;
  const told = document.createElement("span");
  told.className = "soft";
  told.textContent = words;
  item.dataset.state = state;
  item.append(sign, `${name} `, told);
  return item;
}

/** Changes the list only when it says something new, so that a screen reader repeats nothing. */
function showStages(lines) {
  const fresh = lines.map((parts) => line(...parts));
  const same = fresh.map((item) => item.textContent).join("|") === at("stages").dataset.said;
  if (same) return;
  at("stages").dataset.said = fresh.map((item) => item.textContent).join("|");
  at("stages").replaceChildren(...fresh);
}

function showProgress(analysis) {
  at("bar").value = analysis.progress.fraction;
  const stages = analysis.progress.stages.map((stage) => {
    const count = stage.total > 1 ? `, ${stage.done} of ${stage.total}` : "";
    return [stage.status, STAGES[stage.stage] ?? stage.stage, `${STATES[stage.status] ?? stage.status}${count}`];
  });
  showStages([["done", "Send the file", "done"], ...stages]);
}

/** Words for people; said again only when they are others, so that a screen reader repeats nothing. */
function say(id, words) {
  if (at(id).textContent !== words) at(id).textContent = words;
}

async function pause(seconds, stop) {
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  stop.signal.throwIfAborted();
}

/** Asks until there is an answer: a server that restarts or is too busy will have one in a while. */
async function insist(ask, stop) {
  for (let tries = 0; ; tries += 1) {
    try {
      const found = await ask();
      say("lost", "");
      return found;
    } catch (problem) {
      if (!problem.passes) throw problem;
      say("lost", `${problem.title}. What was sent is safe; this page asks again.`);
      await pause(Math.min(2 ** tries, LONGEST_PAUSE), stop);
    }
  }
}

async function follow(id, stop) {
  for (;;) {
    const { analysis, wait } = await insist(() => look(id, stop.signal), stop);
    showProgress(analysis);
    at("work-title").textContent = analysis.media?.filename ?? "At work";
    if (ENDED.has(analysis.status)) return analysis;
    await pause(Math.min(wait, 5), stop);
  }
}

async function land(analysis, stop) {
  if (analysis.status === "canceled") throw new Problem(0, { title: "Canceled", detail: "The analysis was canceled." });
  if (analysis.status === "failed") throw new Problem(0, { title: "No report is possible", ...analysis.error });
  const blob = await insist(() => page(analysis.id, stop.signal), stop);
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(blob);
  at("report").src = address;
  at("save").href = address;
  at("save").download = `deepdefend-${analysis.id}.html`;
  document.title = `${analysis.verdict}: ${analysis.media?.filename ?? "report"} – DeepDefend`;
  show("result");
  at("result-title").focus();
}

/** The frame is as tall as its page, so that there is one scroll bar and a print of everything. */
function grow() {
  const inside = at("report").contentDocument;
  if (!inside?.body) return;
  const fit = () => { at("report").style.height = `${inside.documentElement.offsetHeight}px`; };
  new ResizeObserver(fit).observe(inside.documentElement);
  fit();
}

/** Runs one analysis to its end; `begin` gives its id. */
async function run(begin) {
  going?.stop.abort();
  const mine = { stop: new AbortController(), id: null };
  going = mine;
  try {
    mine.id = await begin(mine.stop);
    history.replaceState(null, "", `#${mine.id}`);
    await land(await follow(mine.id, mine.stop), mine.stop);
  } catch (problem) {
    if (going !== mine) return;
    if (problem.status !== 401) history.replaceState(null, "", location.pathname); // another key may follow it
    if (problem.name === "AbortError") complain(new Problem(0, { title: "Canceled", detail: "Nothing was analysed." }));
    else complain(problem);
  }
}

function analyse(file) {
  if (!file) return;
  if (!key.get()) {
    chosen = file;
    complain(new Problem(0, { title: "The API key is missing", detail: `Paste it at the top of the page; then ${file.name} is sent.` }));
    at("key").focus();
    return;
  }
  at("bar").value = 0;
  say("lost", "");
  say("uncanceled", "");
  at("work-title").textContent = file.name;
  showStages([["running", "Send the file", ""]]);
  show("work");
  at("work-title").focus();
  run(async (stop) => {
    const sent = (share) => {
      const all = share >= 1;
      showStages([["running", "Send the file", all ? "the server stores it" : `${Math.floor(100 * share)}%`]]);
    };
    return (await submit(file, new FormData(at("wishes")), sent, stop.signal)).id;
  });
}

function resume() {
  const id = location.hash.slice(1);
  if (!/^[0-9a-f-]{36}$/.test(id) || !key.get()) return;
  at("work-title").textContent = "At work";
  show("work");
  run(async () => id);
}

function again() {
  going?.stop.abort();
  going = null;
  history.replaceState(null, "", location.pathname);
  document.title = "DeepDefend";
  at("report").removeAttribute("src");
  show("start", "about");
  at("file").focus();
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(at("key").value.trim());
  at("key").value = "";
  showKey();
  at("problem").hidden = true;
  const waiting = chosen;
  chosen = null;
  if (waiting) analyse(waiting);
  else resume();
});
at("key-forget").addEventListener("click", () => {
  key.forget();
  showKey();
  at("key").focus();
});
at("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // the same file may be chosen again
  analyse(file);
});
for (const id of ["drop", "wishes"]) at(id).addEventListener("submit", (event) => event.preventDefault());
at("cancel").addEventListener("click", async () => {
  const { id, stop } = going;
  try {
    if (id) await cancel(id); // the next look sees it
    else stop.abort();
  } catch (problem) {
    if (problem.status === 409) return; // it has ended meanwhile
    if (problem.passes) {
      say("uncanceled", `${problem.title}. It may not have been canceled: try again.`);
      return;
    }
    stop.abort(); // what cannot be canceled with this key is not followed either
    going = null;
    complain(problem);
  }
});
at("print").addEventListener("click", () => at("report").contentWindow.print());
at("again").addEventListener("click", again);
at("report").addEventListener("load", grow);

for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget ?? at("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (!at("start").hidden) analyse(event.dataTransfer.files[0]);
});

showKey();
resume();
