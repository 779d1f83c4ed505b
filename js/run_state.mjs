/**
 * The state of a run: plan, steps, attempts, judgments. It is built from the pack's events or from the run's saved files.
 * Pure: knows nothing of the page or of the network.
 */

import { EVENTS } from "./contract.mjs";

/** A run of which nothing is known yet. */
export function emptyRun() {
  return { run: "", title: "", node: "", steps: [], current: null, status: "", reason: "", tMax: 0, agentText: "", plan: null, workflow: "", prompt: "", parent: "", ancestors: [], warnings: [], waiting: null };
}

/** The run after one event of the pack. */
export function reduce(run, message) {
  const next = {
    ...run,
    node: String(message.node ?? run.node),
    workflow: String(message.workflow ?? run.workflow),
    prompt: String(message.prompt_id ?? run.prompt),
    tMax: message.t_max ?? run.tMax,
  };
  switch (message.event) {
    case EVENTS.plan:
      return { ...emptyRun(), run: String(message.run ?? ""), title: String(message.title ?? ""), parent: String(message.parent ?? ""), node: next.node, workflow: next.workflow, prompt: next.prompt, steps: planSteps(message.plan), plan: message.plan ?? null, status: "running" };
    case EVENTS.warning:
      return { ...next, warnings: [...run.warnings, String(message.text ?? "")] };
    case EVENTS.trying:
      return { ...next, current: [message.step, message.attempt], agentText: "", status: "running" };
    case EVENTS.attempt:
      return withAttempt({ ...next, current: [message.step, message.attempt], run: runOf(message.file) || next.run }, message, {
        file: String(message.file ?? ""),
        prompt: String(message.prompt ?? ""),
        seed: message.seed,
        seconds: message.seconds,
        recalled: Boolean(message.recalled),
        loads: namesOf(message.loads),
        reference: String(message.reference ?? ""),
        overridden: Boolean(message.overridden),
      });
    case EVENTS.judgment:
      return { ...withAttempt(next, message, { judgment: message.judgment ?? null, judged: true, judgeSeconds: message.judge_seconds, overridden: Boolean(message.overridden), loads: namesOf(message.loads) }), agentText: "" };
    case EVENTS.chosen:
      return { ...next, steps: next.steps.map((s) => (s.step === message.step ? { ...s, chosen: message.chosen, accepted: message.accepted } : s)) };
    case EVENTS.done:
      return { ...next, current: null, agentText: "", status: String(message.status ?? "done"), reason: String(message.reason ?? "") };
    case "ended": // of ComfyUI, not of the pack: interrupted or failed
      return run.current || run.status === "running" ? { ...next, current: null, agentText: "", status: String(message.status), reason: String(message.reason ?? "") } : run;
    default:
      return next;
  }
}

/**
 * A run as run.json and the lines of trajectory.jsonl have it; lines that cannot be read are passed over.
 * run.json of a run that ended says which attempts were its own; until then the lines do, but for steps that the
 * plan does not have: the folder may hold earlier passes.
 */
export function fromFiles(name, state, lines) {
  const saved = state?.trajectory ?? {};
  let run = {
    ...emptyRun(),
    run: name,
    origin: state?.origin ?? null,
    workflow: String(state?.origin?.workflow ?? ""),
    steps: planSteps(saved.plan),
    plan: saved.plan ?? null,
    status: String(saved.status ?? ""),
    reason: String(state?.state?.reason ?? ""),
    parent: state?.parent ? `${ownerOf(name)}${state.parent}` : "",
    title: String(state?.title ?? ""),
  };
  const ended = run.status !== "running" && Array.isArray(saved.attempts) && saved.attempts.length > 0;
  const records = ended ? saved.attempts : lines.map(parsed);
  for (const record of records) {
    if (!record || typeof record !== "object" || !record.step) continue;
    if (run.steps.length && !run.steps.some((s) => s.step === record.step)) continue;
    run = withAttempt(run, record, {
      file: `${name}/${record.file ?? ""}`,
      prompt: String(record.prompt ?? ""),
      seed: record.seed,
      seconds: record.seconds,
      judgeSeconds: record.judge_seconds,
      recalled: false,
      loads: namesOf(record.loads),
      reference: String(record.reference_key ?? ""),
      judgment: record.judgment ?? null,
      judged: Boolean(record.judgment_key), // a run without a critic has judgments too, without a key
      overridden: Boolean(record.overridden),
    });
  }
  for (const result of saved.results ?? []) {
    run = { ...run, steps: run.steps.map((s) => (s.step === result.step ? { ...s, chosen: result.chosen, accepted: result.accepted } : s)) };
  }
  return { ...run, steps: run.steps.map((step, at) => chosenSoFar(step, run.steps.slice(at + 1))) };
}

/**
 * The attempt that a step ended with, while run.json has no results yet (they come when a run ends): the accepted
 * attempt, or the last one if a later step began.
 */
function chosenSoFar(step, later) {
  if (step.chosen || !step.attempts.length) return step;
  const good = step.attempts.findLast((a) => ["accepted", "picked"].includes(verdictOf(a)));
  const wentOn = later.some((s) => s.attempts.length);
  if (good) return { ...step, chosen: good.attempt, accepted: true };
  return wentOn ? { ...step, chosen: step.attempts.at(-1).attempt, accepted: false } : step;
}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/**
 * What earlier runs tried for a step of this one, from the same picture: attempts that this run does not show itself.
 * `run.ancestors`: the runs that it branched from, the nearest first, as `fromFiles` gives them.
 */
export function earlierAttempts(run, step) {
  const from = step.attempts[0]?.reference;
  if (from === undefined) return [];
  const shown = new Set(step.attempts.map(imageName));
  const found = [];
  for (const ancestor of run.ancestors ?? []) {
    const same = ancestor.steps.find((other) => other.step === step.step);
    for (const attempt of same?.attempts ?? []) {
      if (attempt.reference !== from || !attempt.file || shown.has(imageName(attempt))) continue;
      shown.add(imageName(attempt));
      found.push({ ...attempt, run: ancestor.run });
    }
  }
  return found;
}

/** The picture that an attempt's file holds: its name without folder, step and attempt. */
function imageName(attempt) {
  return imageLocation(attempt.file).filename.split("_").at(-1);
}

/** A run in which a person accepted an attempt, before the server says so. */
export function withAccepted(run, step, attempt) {
  return {
    ...run,
    steps: run.steps.map((s) =>
      s.step !== step
        ? s
        : { ...s, chosen: attempt, accepted: true, attempts: s.attempts.map((a) => ({ ...a, overridden: a.attempt === attempt })) },
    ),
  };
}

/** The words of `after`, each with whether `before` lacks it there (longest common subsequence). */
export function changedWords(before, after) {
  const a = words(before);
  const b = words(after);
  if (a.length * b.length > 250_000) return b.map((word) => ({ word, isNew: false }));
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  const out = [];
  let i = 0;
  for (let j = 0; j < b.length; ) {
    if (i < a.length && a[i] === b[j]) {
      out.push({ word: b[j++], isNew: false });
      i++;
    } else if (i < a.length && common[i + 1][j] >= common[i][j + 1]) {
      i++;
    } else {
      out.push({ word: b[j++], isNew: true });
    }
  }
  return out;
}

/** "accepted", "rejected", "unread", "picked" or "" (not judged yet, or not at all). */
export function verdictOf(attempt) {
  if (attempt?.overridden) return "picked";
  if (!attempt?.judgment) return "";
  if (!attempt.judgment.parsed) return "unread";
  return attempt.judgment.accepted ? "accepted" : "rejected";
}

/**
 * How often ComfyUI loaded a model for the attempts of a run, and how many of these loads were of a model that an
 * earlier attempt had loaded (as `Trajectory.loads` in Python). null where no attempt says it.
 */
export function loadsOf(run) {
  const counted = run.steps.flatMap((step) => step.attempts.map((attempt) => attempt.loads ?? null)).filter((names) => names);
  const known = new Set();
  let again = 0;
  for (const names of counted) {
    again += names.filter((name) => known.has(name)).length;
    names.forEach((name) => known.add(name));
  }
  return counted.length ? { count: counted.flat().length, again } : null;
}

/**
 * How many attempts of a run its critic judged and how many of these it accepted (as `Trajectory.verdicts` in Python),
 * with the least and the greatest strictness of these verdicts. null where none was judged.
 */
export function verdictsOf(run) {
  const judged = run.steps.flatMap((step) => step.attempts).filter((a) => a.judged && a.judgment?.parsed).map((a) => a.judgment);
  const shifts = judged.map(({ strictness }) => (Number.isFinite(strictness) ? strictness : 0));
  return judged.length ? { accepted: judged.filter((j) => j.accepted).length, judged: judged.length, strictness: [Math.min(...shifts), Math.max(...shifts)] } : null;
}

/** Names of loaded models; null where they were not counted. */
function namesOf(loads) {
  const isNames = Array.isArray(loads) && loads.every((name) => typeof name === "string");
  return isNames ? loads.slice(0, 100).map((name) => name.slice(0, 100)) : null;
}

/** Folder and name, below the output folder, of a picture that an event names. */
export function imageLocation(file) {
  const parts = String(file).split("/");
  return { filename: parts.pop() ?? "", subfolder: ["interleave", ...parts].join("/"), type: "output" };
}

function planSteps(plan) {
  const steps = Array.isArray(plan?.execution_plan) ? plan.execution_plan : [];
  return steps.map((step, index) => ({
    step: index + 1,
    number: step?.step_number ?? index + 1,
    text: String(step?.auxiliary_text || step?.instruction || ""),
    prompt: step?.prompt ?? null,
    attempts: [],
    chosen: 0,
    accepted: true,
  }));
}

function withAttempt(run, at, more) {
  const known = run.steps.some((s) => s.step === at.step);
  const steps = known ? run.steps : [...run.steps, { step: at.step, number: at.step, text: "", prompt: "", attempts: [], chosen: 0, accepted: true }];
  return {
    ...run,
    steps: steps.map((s) => {
      if (s.step !== at.step) return s;
      const others = s.attempts.filter((a) => a.attempt !== at.attempt);
      const mine = s.attempts.find((a) => a.attempt === at.attempt) ?? { attempt: at.attempt };
      return { ...s, attempts: [...others, { ...mine, ...more }].sort((a, b) => a.attempt - b.attempt) };
    }),
  };
}

/** The run that a file belongs to; where ComfyUI has several users, with the user's folder in front: "@ann/tale". */
export function runOf(file) {
  const owner = ownerOf(file);
  return owner + String(file ?? "").slice(owner.length).split("/")[0];
}

function ownerOf(path) {
  return String(path ?? "").match(/^@[^/]*\//)?.[0] ?? "";
}

function words(text) {
  return String(text ?? "").split(/(\s+)/).filter((w) => w.trim());
}
