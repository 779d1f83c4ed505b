/**
 * The tiny agents' thoughts in sentences, for people: "Saw a black circle; wanted a red one." The same as
 * `interleave_thinker/tinyworld/thoughts.py`: mend both. Any other text is returned as it is.
 */
const COLOR = "red|green|blue|yellow|purple|orange|white|black";
const SCENE = `(?:none|(?:small|medium|big) (?:${COLOR}) (?:circle|square|triangle|star) (?:center|left|right|top|bottom)) (?:${COLOR})`;
const JUDGED = new RegExp(`^before (sheet|${SCENE}) after (unclear|${SCENE}) wanted (${SCENE}) so ((?:ok|bad)(?: ok| bad)*)$`);
const NAMES = ["size", "color", "shape", "position", "background"];

/** A thought in the tiny agents' shorthand (of a judgment, a comparison or a plan) -> sentences. */
export function inSentences(thought) {
  const words = String(thought ?? "").split(/\s+/).filter(Boolean).join(" ");
  const told = words.split(" ; ").map((one) => {
    const [, number, rest] = one.match(/^([0-9]+) (.+)$/) ?? [];
    const said = number && sentence(rest);
    return said ? `${number}: ${said}` : "";
  });
  return told.every(Boolean) ? told.join(" ") : judged(words) || String(thought ?? "");
}

function sentence(words) {
  if (!new RegExp(`^${SCENE}$`).test(words)) return judged(words);
  const scene = whole(words.split(" "));
  return `${scene[0].toUpperCase()}${scene.slice(1)}.`;
}

function judged(words) {
  const found = words.match(JUDGED);
  if (!found) return "";
  const [, after, wanted, flags] = found.slice(1).map((said) => said.split(" "));
  const wrong = flags.map((flag) => flag === "bad");
  const unclear = found[2] === "unclear";
  const asBefore = found[1] === found[2] ? ", as before" : "";
  const saw = unclear ? "Could not tell what the picture shows" : `Saw ${whole(after)}${asBefore}`;
  if (unclear || after.length !== wanted.length) return found[4] === "bad" ? `${saw}; wanted ${whole(wanted)}.` : "";
  if (wrong.length !== wanted.length) return "";
  const differs = after.map((value, at) => value !== wanted[at]);
  if (differs.some((other, at) => other !== wrong[at])) {
    const names = wanted.length < NAMES.length ? ["shape", "background"] : NAMES;
    const called = names.filter((_, at) => wrong[at]).map((name) => `the ${name}`);
    return `${saw}; wanted ${whole(wanted)}; found ${called.join(" and ") || "nothing"} wrong.`;
  }
  if (!differs.includes(true)) return `Saw ${whole(after)}, as wanted.`;
  if (wanted.length < NAMES.length) return `${saw}; wanted ${whole(wanted)}.`;
  return `Saw ${part(after, differs)}${asBefore}; wanted ${part(wanted, differs, true)}.`;
}

function whole(values) {
  return values.length < NAMES.length ? withArticles(`an empty ${values.at(-1)} background`) : part(values, NAMES.map(() => true));
}

/** Those attributes that are `shown`. again: the shape was named before, and is named only where it is shown. */
function part([size, color, shape, position, background], shown, again = false) {
  const words = [size, color].filter((_, at) => shown[at]);
  const named = !again || shown[2];
  const thing = named || words.length ? ["a", ...words, named ? shape : "one"].join(" ") : "it";
  return withArticles(`${thing}${shown[3] ? ` at the ${position}` : ""}${shown[4] ? ` on a ${background} background` : ""}`);
}

function withArticles(text) {
  return text.replace(/\b([Aa]) (?=[aeiou])/g, "$1n ");
}
