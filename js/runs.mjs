/**
 * The runs that a page knows, by the workflow and node that they belong to. Pure: told of events and files.
 *
 * Node ids alone are the same in many workflows, so a run is found by both. The sidebar shows the last run of the open
 * workflow, or of no workflow (queued by an API client), until a person picks a saved one.
 */
import { emptyRun, reduce } from "./live.mjs";

export function createRuns() {
  const byPlace = new Map();
  let shown = emptyRun();
  let picked = false;
  const key = (workflow, node) => `${workflow ?? ""}/${node ?? ""}`;

  function keep(run) {
    byPlace.set(key(run.workflow, run.node), run);
  }

  return {
    /** The run of a node of a workflow. */
    of: (workflow, node) => byPlace.get(key(workflow, node)) ?? emptyRun(),
    /** Whether more is known of it than that something ended: its plan or an attempt. */
    has: (workflow, node) => (byPlace.get(key(workflow, node))?.steps.length ?? 0) > 0,
    /** What the sidebar shows. */
    shown: () => shown,
    /** One event of the pack; `open` is the id of the workflow that is open. */
    hear(facts, open) {
      const workflow = String(facts.workflow ?? "");
      const run = reduce(this.of(workflow, String(facts.node ?? "")), facts);
      keep({ ...run, workflow });
      const same = shown.run === run.run && shown.node === run.node && shown.workflow === workflow;
      if (same || (!picked && (workflow === "" || workflow === open))) shown = { ...run, workflow };
    },
    /** A run from its folder. */
    put(run, open) {
      keep(run);
      if (!picked && (run.workflow === "" || run.workflow === open)) shown = run;
    },
    /** What the agent writes, for the runs that wait for it. */
    speak(text) {
      for (const run of byPlace.values()) if (run.current) keep({ ...run, speech: text });
      if (shown.current) shown = { ...shown, speech: text };
    },
    /** ComfyUI ended everything that ran: interrupted or failed. */
    end(status) {
      for (const run of byPlace.values()) keep(reduce(run, { event: "ended", status }));
      shown = reduce(shown, { event: "ended", status });
    },
    /** A person picks a saved run; null: back to the live one of `open`. */
    pick(run, open) {
      picked = run !== null;
      shown = run ?? [...byPlace.values()].filter((other) => other.workflow === open).pop() ?? emptyRun();
    },
  };
}
