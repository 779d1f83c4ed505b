/** A plan as a list of cards. Pure: every change gives a new list. The server decides whether a plan is valid. */

/** Cards from a plan as the pack writes it ({execution_plan: [...]}). */
export function toCards(plan) {
  const steps = Array.isArray(plan?.execution_plan) ? plan.execution_plan : [];
  return steps.map((step) => ({
    name: String(step?.step_name ?? ""),
    instruction: String(step?.instruction ?? ""),
    prompt: typeof step?.prompt === "string" ? step.prompt : "",
    text: String(step?.auxiliary_text ?? ""),
    textOnly: typeof step?.prompt !== "string",
  }));
}

/** The plan's JSON text. was: the plan that the cards came from; its first number and its texts beside the steps are kept. */
export function toText(cards, was = null) {
  const first = firstNumber(was);
  const steps = cards.map((card, at) => ({
    step_number: first + at,
    step_name: card.name,
    instruction: card.instruction.trim() || (card.textOnly ? null : card.prompt.trim()),
    prompt: card.textOnly ? null : card.prompt.trim(),
    auxiliary_text: card.text.trim() || null,
  }));
  const kept = Object.fromEntries(["reasoning", "request", "title", "lead"].filter((key) => was?.[key]).map((key) => [key, String(was[key])]));
  return JSON.stringify({ execution_plan: steps, ...kept }, null, 1);
}

export function firstNumber(plan) {
  const number = plan?.execution_plan?.[0]?.step_number;
  return Number.isInteger(number) && number > 0 ? number : 1;
}

export function emptyCard() {
  return { name: "", instruction: "", prompt: "", text: "", textOnly: false };
}

/** A card changed. A prompt that stood for the instruction too goes on doing so. */
export function changed(cards, at, change) {
  return cards.map((card, index) => {
    if (index !== at) return card;
    const same = card.instruction === card.prompt && "prompt" in change;
    return { ...card, ...change, ...(same ? { instruction: change.prompt } : {}) };
  });
}

export function moved(cards, at, by) {
  const to = at + by;
  if (to < 0 || to >= cards.length) return cards;
  const next = [...cards];
  [next[at], next[to]] = [next[to], next[at]];
  return next;
}

export function inserted(cards, at, card = emptyCard()) {
  return [...cards.slice(0, at), card, ...cards.slice(at)];
}

export function removed(cards, at) {
  return cards.filter((_, index) => index !== at);
}

/** One line a card, as the node shows it. */
export function outline(cards, first = 1) {
  return cards.map((card, at) => `${first + at}. ${(card.textOnly ? `(text only) ${card.text}` : card.prompt).slice(0, 160)}`);
}
