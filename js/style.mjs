/**
 * How the live view, the document, the plan on a node and the dialogs look. Every colour is one of the editor's theme or a
 * mix of these: text near --fg-color on --comfy-menu-bg, which each palette keeps apart. tests/browser/test_colors.py
 * computes the contrast in the palettes.
 */
export const STYLE = `
.itk, .itk-check, .itk-side, .itk-plan, .itk-ask {
  --itk-text: var(--fg-color);
  --itk-back: var(--comfy-menu-bg);
  --itk-muted: color-mix(in srgb, var(--itk-text) 75%, var(--itk-back));
  --itk-line: color-mix(in srgb, var(--itk-text) 25%, var(--itk-back));
  --itk-edge: color-mix(in srgb, var(--itk-text) 50%, var(--itk-back));
  --itk-bad: color-mix(in srgb, var(--error-text) 55%, var(--itk-text));
  --itk-warn: color-mix(in srgb, var(--color-gold-600, var(--itk-text)) 50%, var(--itk-text));
  --itk-good: color-mix(in srgb, var(--color-jade-600, var(--itk-text)) 50%, var(--itk-text));
  --itk-accent: color-mix(in srgb, var(--primary-background, var(--itk-text)) 55%, var(--itk-text));
  --itk-button: color-mix(in srgb, var(--itk-text) 8%, var(--itk-back));
  --itk-chosen: color-mix(in srgb, var(--primary-background, var(--itk-text)) 30%, var(--itk-back));
  --itk-marked: color-mix(in srgb, var(--color-gold-600, var(--itk-text)) 25%, var(--itk-back));
  color: var(--itk-text); background: var(--itk-back);
}
.itk, .itk-check { font: 12px/1.4 system-ui, sans-serif;
  height: 100%; min-height: 0; overflow: auto; padding: 6px 8px; box-sizing: border-box; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.itk-in-node { max-height: 28rem; } /* a node that grows with its content would never stop */
.itk-head { display: flex; flex-wrap: wrap; gap: 0 8px; justify-content: space-between; margin-bottom: 4px; }
.itk-state, .itk-facts, .itk-task, .itk-text, .itk-rate { color: var(--itk-muted); }
.itk-rate { margin-bottom: 4px; }
.itk-banner { border: 1px solid; border-inline-start-width: 4px; border-radius: 5px; padding: 4px 8px; margin-bottom: 6px; }
.itk-banner p { margin: 0; }
.itk-failed { color: var(--itk-bad); }
.itk-stopped { color: var(--itk-warn); }
.itk-banner .itk-reason { color: inherit; font-weight: 600; white-space: pre-wrap; }
.itk-hint { color: var(--itk-text); }
.itk-progress { display: flex; flex-wrap: wrap; gap: 0 8px; align-items: center; margin-bottom: 4px; }
.itk-bar { display: flex; gap: 1px; flex: 1; min-width: 6rem; height: 6px; border-radius: 3px; overflow: hidden; }
.itk-bar span { flex: 1; background: var(--itk-line); }
.itk-bar i { display: block; height: 100%; background: var(--itk-accent); }
.itk-waiting { margin-bottom: 6px; }
.itk-bar.itk-busy span { background: var(--itk-accent); }
.itk-step { border-top: 1px solid var(--itk-line); padding: 5px 0; }
.itk-title { font-weight: 600; }
.itk-row { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 4px; }
.itk-thumb { position: relative; width: 68px; height: 68px; padding: 0; border: 3px solid var(--itk-edge); border-radius: 6px; overflow: hidden;
  background: var(--itk-button); color: inherit; cursor: pointer; }
.itk-thumb img { width: 100%; height: 100%; object-fit: cover; display: block; }
.itk-accepted, .itk-picked { border-color: var(--itk-good); }
.itk-rejected { border-color: var(--itk-warn); border-style: dashed; }
.itk-unread { border-color: var(--itk-bad); border-style: dotted; }
.itk-earlier { margin-top: 4px; }
.itk-earlier .itk-thumb { width: 44px; height: 44px; opacity: .75; }
.itk-empty { display: flex; align-items: center; justify-content: center; }
/* No text pulses: it would be hard to read half of the time. */
.itk-thumb.itk-busy { animation: itk-edge-pulse 1.2s ease-in-out infinite; }
.itk-bar.itk-busy { animation: itk-pulse 1.2s ease-in-out infinite; }
@keyframes itk-edge-pulse { 50% { border-color: var(--itk-accent); } }
@keyframes itk-pulse { 50% { opacity: .45; } }
@media (prefers-reduced-motion: reduce) { .itk-thumb.itk-busy, .itk-bar.itk-busy { animation: none; border-color: var(--itk-accent); } }
.itk-chosen { position: absolute; right: 2px; bottom: 0; color: var(--itk-back); background: var(--itk-good); border-radius: 4px; padding: 0 4px; }
.itk-details { margin-top: 5px; }
.itk-details p { margin: 3px 0; white-space: pre-wrap; }
.itk mark { background: var(--itk-marked); color: inherit; border-radius: 2px; }
.itk-large { width: 100%; max-width: 24rem; border-radius: 6px; }
/* The end of a long text is what is seen. */
.itk-speech { display: flex; flex-direction: column; justify-content: flex-end; max-height: 9em; overflow: hidden; white-space: pre-wrap;
  margin: 4px 0 0; font: 11px/1.4 ui-monospace, monospace; color: var(--itk-muted); }
.itk-reason { color: var(--itk-warn); }
.itk-note-bad { color: var(--itk-bad); }
.itk-tabs { display: flex; flex-wrap: wrap; gap: 4px; margin-bottom: 4px; }
.itk-tab, .itk-runs select { font: 12px/1.4 system-ui, sans-serif; color: inherit; background: var(--itk-button); border: 1px solid var(--itk-edge);
  border-radius: 5px; padding: 2px 8px; cursor: pointer; }
.itk-runs option { color: var(--itk-text); background: var(--itk-back); }
.itk-tab[aria-pressed="true"] { background: var(--itk-chosen); border-color: var(--itk-accent); }
.itk :focus-visible, .itk-side :focus-visible, .itk-plan :focus-visible, .itk-ask :focus-visible { outline: 2px solid var(--itk-accent); outline-offset: 1px; }
.itk-pair { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; }
.itk-side-by-side { margin: 0; min-width: 0; }
.itk-own { display: flex; gap: 6px; align-items: flex-start; margin: 4px 0; flex-wrap: wrap; }
.itk-own textarea, .itk-plan textarea { font: inherit; color: inherit; background: var(--comfy-input-bg); border: 1px solid var(--itk-edge);
  border-radius: 4px; padding: 4px 6px; resize: vertical; }
.itk-own textarea { flex: 1; min-width: 10rem; }
.itk-page-title { margin: 6px 0 2px; font-size: 16px; line-height: 1.25; }
.itk-choice { display: inline-flex; align-items: center; gap: 4px; }
.itk-choice select { font: inherit; color: inherit; background: var(--comfy-input-bg); border: 1px solid var(--itk-edge); border-radius: 5px; }
.itk-path { user-select: all; overflow-wrap: anywhere; }
.itk-folded summary { cursor: pointer; color: var(--itk-muted); margin: 2px 0; }
.itk-said { white-space: pre-wrap; margin: 8px 0 4px; font-size: 13px; }
.itk-outline { margin: 4px 0 0; padding: 0; list-style: none; }
.itk-outline li { padding: 1px 0; border-top: 1px solid var(--itk-line); }
.itk-runs { display: flex; flex-wrap: wrap; gap: 6px; padding: 6px 8px; }
.itk-check { height: auto; max-height: 80%; flex: none; border-bottom: 1px solid var(--itk-line); }
.itk-check[hidden] { display: none; }
.itk-check h3 { font-size: inherit; margin: 8px 0 0; }
.itk-check p { margin: 4px 0; }
.itk-runs button { white-space: nowrap; }
.itk-runs select { flex: 1; min-width: 8rem; }

.itk-plan, .itk-ask { pointer-events: auto; box-sizing: border-box; overflow: auto; font: 14px/1.45 system-ui, sans-serif;
  border: 1px solid var(--itk-edge); border-radius: 8px; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.itk-plan::backdrop, .itk-ask::backdrop { background: color-mix(in srgb, var(--bg-color) 65%, transparent); }
.itk-plan { width: min(48rem, calc(100vw - 1.5rem)); max-height: 88vh; padding: 14px 18px; }
.itk-plan h3 { margin: 0 0 8px; font-size: 16px; }
.itk-card { border: 1px solid var(--itk-line); border-radius: 6px; padding: 8px 10px; margin-bottom: 10px; }
.itk-card-head { display: flex; gap: 4px; align-items: center; }
.itk-card-head strong { flex: 1; }
.itk-field { display: block; margin-top: 6px; }
.itk-field span { display: block; color: var(--itk-muted); font-size: 12px; }
.itk-plan textarea { width: 100%; box-sizing: border-box; }
.itk-plan textarea:disabled { opacity: .5; }
.itk-only { display: flex; gap: 6px; align-items: center; margin-top: 4px; font-size: 13px; }
.itk-plan summary { margin-top: 6px; font-size: 12px; color: var(--itk-muted); cursor: pointer; }
.itk-plan button, .itk-ask button { font: inherit; color: inherit; background: var(--itk-button); border: 1px solid var(--itk-edge);
  border-radius: 5px; padding: 2px 9px; cursor: pointer; min-width: 30px; }
.itk-plan button:disabled { opacity: .5; cursor: default; }
.itk-plan .itk-main, .itk-ask button[value="ok"] { background: var(--itk-chosen); border-color: var(--itk-accent); }
.itk-plan-buttons { position: sticky; bottom: -14px; display: flex; flex-wrap: wrap; gap: 8px; align-items: center; padding: 8px 0;
  background: var(--itk-back); }
.itk-problem { flex: 1; min-width: 10rem; margin: 0; color: var(--itk-bad); font-size: 13px; }

.itk-ask { width: min(40rem, calc(100vw - 2rem)); max-height: 85vh; padding: 16px 20px; }
.itk-ask h3 { margin: 0 0 10px; font-size: 16px; }
.itk-ask fieldset { border: 1px solid var(--itk-line); border-radius: 6px; margin: 0 0 12px; padding: 6px 10px; min-width: 0; }
.itk-ask label { display: grid; grid-template-columns: auto 1fr; gap: 0 8px; padding: 5px 0; cursor: pointer; }
.itk-ask small { grid-column: 2; color: var(--itk-muted); white-space: pre-wrap; max-height: 6em; overflow: hidden; }
.itk-ask-buttons { display: flex; gap: 8px; justify-content: flex-end; }
.itk-ask-buttons button { padding: 5px 14px; }
`;
