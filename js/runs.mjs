/**
 * The runs that a page knows, by the workflow and node that they belong to. Pure: it gets events and files as values.
 *
 * Node ids alone are the same in many workflows, so a run is found by both. The sidebar shows the last run of the open
 * workflow, or of no workflow (queued by an API client), until a person picks a saved one; where the open workflow has
 * none, the run that was shown before stays. `shown` takes the open workflow as an argument: a page that was reloaded
 * receives events of a run before its workflow is open again.
 */
import { emptyRun, reduce, withAccepted } from "./run_state.mjs";

export function createRuns() {
  const byNode = new Map(); // the run with the newest event is last
  const ends = new Map(); // of prompts that ComfyUI ended, by id: a run's last events may come after that
  let picked = null;
  let lastShown = "";
  const key = (workflow, node) => `${workflow ?? ""}/${node ?? ""}`;

  function each(change) {
    for (const [id, run] of byNode) byNode.set(id, change(run));
    picked &&= change(picked);
  }

  /** The picked run as it is now: it may have gone on since it was read. */
  function pickedNow() {
    return picked && ([...byNode.values()].find((run) => run.run === picked.run && run.workflow === picked.workflow) ?? picked);
  }

  return {
    /** The run of a node of a workflow. */
    of: (workflow, node) => byNode.get(key(workflow, node)) ?? emptyRun(),
    /** Whether this page knows the run's plan. An event of its progress or end alone does not bring one. */
    has: (workflow, node) => Boolean(byNode.get(key(workflow, node))?.plan),
    /** The runs without an end, as far as this page received one. */
    busy: () => [...byNode.values()].filter((run) => run.current || run.status === "running"),
    /** What the sidebar shows; `open` is the id of the workflow that is open. */
    shown(open) {
      const here = [...byNode].filter(([, run]) => run.workflow === "" || run.workflow === open).pop();
      lastShown = here?.[0] ?? lastShown;
      return pickedNow() ?? byNode.get(lastShown) ?? emptyRun();
    },
    all: () => [...byNode.values()],
    /** One event of the pack. */
    addEvent(message) {
      const workflow = String(message.workflow ?? "");
      const next = { ...reduce(this.of(workflow, String(message.node ?? "")), message), workflow };
      const run = ends.has(next.prompt) ? reduce(next, ends.get(next.prompt)) : next;
      byNode.delete(key(workflow, run.node));
      byNode.set(key(workflow, run.node), run);
    },
    /** A run from its folder. It does not become the newest run: only events decide that. */
    addSaved: (run) => byNode.set(key(run.workflow, run.node), run),
    /** What the agent writes, for the runs that wait for it. */
    setAgentText: (text) => each((run) => (run.current ? { ...run, agentText: text } : run)),
    /** ComfyUI ended everything that ran, `prompt` too: interrupted or failed. reason: what it says of an error. */
    end(status, reason = "", prompt = "") {
      const end = { event: "ended", status, reason };
      for (const id of [prompt, ...this.busy().map((run) => run.prompt)]) if (id && !ends.has(id)) ends.set(id, end);
      each((run) => reduce(run, end));
    },
    /** The runs that a run branched from, as their folders hold them. */
    setAncestors(name, ancestors) {
      each((run) => (run.run === name ? { ...run, ancestors } : run));
    },
    /** A person accepts an attempt of a run. */
    accept(name, step, attempt) {
      each((run) => (run.run === name ? withAccepted(run, step, attempt) : run));
    },
    /** A person picks a saved run; null: back to the last one. */
    pick(run) {
      picked = run;
    },
    isPicked: () => picked !== null,
    /** Whether a queued prompt has told of its loop: the run of a workflow that came of it. */
    hasBegun: (prompt) => [...byNode.values()].some((run) => run.prompt === prompt),
  };
}
