/** The list of saved runs, as the server's GET /interleave_thinker/runs has it. */

const STATES = { done: "finished", stopped: "stopped" };

/** One line for a run: when it was last written, how it ended, what it is about. */
export function savedRunLabel({ name, title, status, time }, locale = undefined) {
  const when = Number.isFinite(time) ? new Date(time * 1000).toLocaleString(locale, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }) : "";
  const branch = /~\d+$/.exec(name)?.[0] ?? "";
  const about = title ? `${title.slice(0, 60)}${branch && ` (${branch})`}` : name;
  return [when, STATES[status] ?? "not finished", about].filter(Boolean).join(" · ");
}
