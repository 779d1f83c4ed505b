/** How the live view, the document and the plan on a node look; colours are the editor's own. */
export const STYLE = `
.itk, .itk-check { font: 12px/1.4 system-ui, sans-serif; color: var(--fg-color, #ddd); background: var(--comfy-input-bg, #222);
  height: 100%; min-height: 0; overflow: auto; padding: 6px 8px; box-sizing: border-box; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.itk-in-node { max-height: 28rem; } /* a node that grows with its content would never stop */
.itk-head { display: flex; gap: 8px; justify-content: space-between; margin-bottom: 4px; }
.itk-state, .itk-facts, .itk-text, .itk-rate { color: var(--descrip-text, #aaa); }
.itk-state { white-space: nowrap; }
.itk-rate { margin-bottom: 4px; }
.itk-step { border-top: 1px solid var(--border-color, #444); padding: 5px 0; }
.itk-title { font-weight: 600; }
.itk-row { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 4px; }
.itk-thumb { position: relative; width: 68px; height: 68px; padding: 0; border: 3px solid #777; border-radius: 6px; overflow: hidden;
  background: var(--comfy-menu-bg, #333); color: inherit; cursor: pointer; }
.itk-thumb img { width: 100%; height: 100%; object-fit: cover; display: block; }
.itk-thumb:focus-visible { outline: 2px solid #6cf; outline-offset: 1px; }
.itk-accepted, .itk-picked { border-color: #3fa45b; }
.itk-rejected { border-color: #d9822b; border-style: dashed; }
.itk-unread { border-color: #c0392b; border-style: dotted; }
.itk-earlier { margin-top: 4px; }
.itk-earlier .itk-thumb { width: 44px; height: 44px; opacity: .75; }
.itk-empty { display: flex; align-items: center; justify-content: center; }
.itk-busy { animation: itk-pulse 1.2s ease-in-out infinite; }
@keyframes itk-pulse { 50% { opacity: .45; } }
@media (prefers-reduced-motion: reduce) { .itk-busy { animation: none; opacity: .7; } }
.itk-chosen { position: absolute; right: 2px; bottom: 0; color: #fff; background: #1f7a3d; border-radius: 4px; padding: 0 4px; }
.itk-details { margin-top: 5px; }
.itk-details p { margin: 3px 0; white-space: pre-wrap; }
.itk-details mark { background: #6b4d00; color: #fff; border-radius: 2px; }
.itk-large { width: 100%; max-width: 24rem; border-radius: 6px; }
.itk-speech { max-height: 8em; overflow: auto; white-space: pre-wrap; margin: 4px 0 0; font-size: 11px; color: var(--descrip-text, #aaa); }
.itk-reason { color: #e0a050; }
.itk-tabs { display: flex; flex-wrap: wrap; gap: 4px; margin-bottom: 4px; }
.itk-tab { font: inherit; color: inherit; background: var(--comfy-menu-bg, #333); border: 1px solid var(--border-color, #555);
  border-radius: 5px; padding: 2px 8px; cursor: pointer; }
.itk-tab[aria-pressed="true"] { background: #2f6fb0; color: #fff; }
.itk-tab:focus-visible { outline: 2px solid #6cf; }
.itk-pair { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; }
.itk-side-by-side { margin: 0; min-width: 0; }
.itk-own { display: flex; gap: 6px; align-items: flex-start; margin: 4px 0; flex-wrap: wrap; }
.itk-own textarea { flex: 1; min-width: 10rem; font: inherit; color: inherit; background: var(--comfy-menu-bg, #333);
  border: 1px solid var(--border-color, #666); border-radius: 4px; padding: 3px 5px; resize: vertical; }
.itk-page-title { margin: 6px 0 2px; font-size: 16px; line-height: 1.25; }
.itk-choice { display: inline-flex; align-items: center; gap: 4px; }
.itk-choice select { font: inherit; color: inherit; background: var(--comfy-menu-bg, #333); border: 1px solid var(--border-color, #555); border-radius: 5px; }
.itk-path { user-select: all; overflow-wrap: anywhere; }
.itk-folded summary { cursor: pointer; color: var(--descrip-text, #aaa); margin: 2px 0; }
.itk-said { white-space: pre-wrap; margin: 8px 0 4px; font-size: 13px; }
.itk-outline { margin: 4px 0 0; padding: 0; list-style: none; }
.itk-outline li { padding: 1px 0; border-top: 1px solid var(--border-color, #444); }
.itk-runs { display: flex; gap: 6px; margin-bottom: 6px; }
.itk-check { height: auto; max-height: 80%; flex: none; border-bottom: 1px solid var(--border-color, #444); }
.itk-check[hidden] { display: none; }
.itk-check h3 { font-size: inherit; margin: 8px 0 0; }
.itk-check p { margin: 4px 0; }
.itk-runs button { font: 12px/1.4 system-ui, sans-serif; color: var(--fg-color, #ddd); white-space: nowrap; }
.itk-runs select { flex: 1; min-width: 0; }
`;
