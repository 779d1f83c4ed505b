/** How far a run is, and how long it may still take. Pure. */

/** The steps that get a picture, each with the part of it that is done: 0 to 1. Never less, but where a step is retried. */
export function partsOf(run) {
  return run.steps.filter((step) => step.prompt !== null).map((step) => (step.chosen ? 1 : partOf(step, run.tMax)));
}

/** An attempt counts half when its picture is there. */
function partOf(step, tMax) {
  const tries = Math.max(tMax, step.attempts.length);
  const done = step.attempts.reduce((sum, attempt) => sum + (attempt.judgment ? 1 : 0.5), 0);
  return tries ? Math.min(done / tries, 0.95) : 0;
}

/**
 * The seconds that a run will still take, from its own finished steps; null where none of them was made anew. Attempts
 * from the cache cost nothing; the first one, which waits for models to be loaded, counts only where it is alone.
 */
export function secondsLeft(run) {
  const steps = run.steps.filter((step) => step.prompt !== null);
  const over = steps.filter((step) => step.chosen && step.attempts.length);
  const costs = steps.flatMap((step) => step.attempts.filter((attempt) => isMade(attempt, step)).map((attempt) => attempt.seconds + (Number.isFinite(attempt.judgeSeconds) ? attempt.judgeSeconds : 0)));
  if (!over.length || !costs.length) return null;
  const later = (costs.length > 1 ? costs.slice(1) : costs).sort((a, b) => a - b);
  const usual = later[Math.floor(later.length / 2)];
  const tries = over.reduce((sum, step) => sum + step.attempts.length, 0) / over.length;
  const left = steps.filter((step) => !step.chosen).map((step) => Math.max(tries - step.attempts.filter((a) => a.judgment).length, 1));
  return usual * left.reduce((sum, count) => sum + count, 0);
}

function isMade(attempt, step) {
  return !attempt.recalled && Number.isFinite(attempt.seconds) && Boolean(attempt.judgment || step.chosen);
}

/** "about 2 min left", in steps that a person would say; "" where it is not known. */
export function timeLeft(seconds) {
  if (seconds === null) return "";
  if (seconds < 10) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 10) * 10} s left`;
  const minutes = Math.max(1, Math.round(seconds / 60));
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  return `about ${[hours && `${hours} h`, rest && `${rest} min`].filter(Boolean).join(" ")} left`;
}
