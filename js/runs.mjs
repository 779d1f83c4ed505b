/**
 * The runs that a page knows, by the workflow and node that they belong to. Pure: told of events and files.
 *
 * Node ids alone are the same in many workflows, so a run is found by both. The sidebar shows the last run of the open
 * workflow, or of no workflow (queued by an API client), until a person picks a saved one; where the open workflow has
 * none, the run that was shown before stays. Which workflow is open is asked when it is shown: a page that was reloaded
 * hears of a run before it has its workflow back.
 */
import { emptyRun, reduce, withAccepted } from "./live.mjs";

export function createRuns() {
  const byPlace = new Map(); // the run that was told of last is last
  let picked = null;
  let lastShown = "";
  const key = (workflow, node) => `${workflow ?? ""}/${node ?? ""}`;

  function each(change) {
    for (const [place, run] of byPlace) byPlace.set(place, change(run));
    picked &&= change(picked);
  }

  /** The picked run as it is now: it may have gone on since it was read. */
  function pickedNow() {
    return picked && ([...byPlace.values()].find((run) => run.run === picked.run && run.workflow === picked.workflow) ?? picked);
  }

  return {
    /** The run of a node of a workflow. */
    of: (workflow, node) => byPlace.get(key(workflow, node)) ?? emptyRun(),
    /** Whether more is known of it than that something went on or ended: its plan. */
    has: (workflow, node) => Boolean(byPlace.get(key(workflow, node))?.plan),
    /** Those that still run, as far as this page was told. */
    busy: () => [...byPlace.values()].filter((run) => run.current || run.status === "running"),
    /** What the sidebar shows; `open` is the id of the workflow that is open. */
    shown(open) {
      const here = [...byPlace].filter(([, run]) => run.workflow === "" || run.workflow === open).pop();
      lastShown = here?.[0] ?? lastShown;
      return pickedNow() ?? byPlace.get(lastShown) ?? emptyRun();
    },
    /** One event of the pack. */
    hear(facts) {
      const workflow = String(facts.workflow ?? "");
      const run = { ...reduce(this.of(workflow, String(facts.node ?? "")), facts), workflow };
      byPlace.delete(key(workflow, run.node));
      byPlace.set(key(workflow, run.node), run);
    },
    /** A run from its folder; which run is the last one is what events tell. */
    put: (run) => byPlace.set(key(run.workflow, run.node), run),
    /** What the agent writes, for the runs that wait for it. */
    speak: (text) => each((run) => (run.current ? { ...run, speech: text } : run)),
    /** ComfyUI ended everything that ran: interrupted or failed. */
    end: (status) => each((run) => reduce(run, { event: "ended", status })),
    /** The runs that a run branched from, as its folder names them. */
    descend(name, ancestors) {
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
  };
}
