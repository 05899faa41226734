// Calls of this server's API. The key lives in this tab's session storage and in one header, nowhere else.

const STORED = "deepdefend-key";
const ANALYSES = "/v1/analyses";
const PASSING = new Set([0, 429, 502, 503, 504]);

export const key = {
  get: () => sessionStorage.getItem(STORED),
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

/** What went wrong, in the words of the server's problem document. */
export class Problem extends Error {
  constructor(status, found = {}) {
    super(typeof found.detail === "string" ? found.detail : "The server gave no reason.");
    this.status = status;
    this.title = typeof found.title === "string" ? found.title : "That did not work";
    /** Whether the same call may well succeed in a while; 0 is no answer at all. */
    this.passes = PASSING.has(status);
    this.code = [found.code, found.request_id && `request ${found.request_id}`].filter(Boolean).join(", ");
  }
}

const away = () =>
  new Problem(0, { title: "No answer", detail: "This server does not answer. Is it running, and are you connected?" });

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** The answer and, as `read` takes it, its body: a line may break before either is here. */
async function call(path, read, options = {}) {
  const headers = { Authorization: `Bearer ${key.get()}`, ...options.headers };
  let answer, body;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-cache", credentials: "omit" });
    body = await (answer.ok ? read(answer) : answer.text());
  } catch (error) {
    throw error.name === "AbortError" ? error : away();
  }
  if (!answer.ok) throw new Problem(answer.status, parsed(body));
  return { answer, body };
}

/** Sends a file with the fields of a form; `onSent` hears the share under way. Rejects with Problem, or AbortError. */
export function submit(file, form, onSent, signal) {
  form.append("file", file, file.name);
  // fetch tells nothing of an upload's progress.
  const request = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    request.open("POST", ANALYSES);
    request.setRequestHeader("Authorization", `Bearer ${key.get()}`);
    request.setRequestHeader("Idempotency-Key", `"${crypto.getRandomValues(new Uint32Array(4)).join("-")}"`);
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.onload = () => {
      const found = parsed(request.responseText);
      if (request.status === 202) resolve(found);
      else reject(new Problem(request.status, found));
    };
    request.onerror = () => reject(away());
    request.onabort = () => reject(new DOMException("canceled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/** An analysis, and the seconds after which another look is worth it. */
export async function look(id, signal) {
  const { answer, body } = await call(`${ANALYSES}/${encodeURIComponent(id)}`, (found) => found.json(), { signal });
  return { analysis: body, wait: Number(answer.headers.get("Retry-After")) || 1 };
}

export async function cancel(id) {
  await call(`${ANALYSES}/${encodeURIComponent(id)}/cancel`, (found) => found.text(), { method: "POST" });
}

/** The report as a page. */
export async function page(id, signal) {
  const path = `${ANALYSES}/${encodeURIComponent(id)}/report.html`;
  return (await call(path, (found) => found.blob(), { signal })).body;
}
