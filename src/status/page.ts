/**
 * The page at `/`: the same as `/v1/status`, live, for a person who watches.
 *
 * A constant: it holds no data, asks for them every two seconds, and writes them as text, never as markup. Style and
 * script are inline and named in the policy by their hash; nothing else is loaded from anywhere.
 *
 * @module
 */
import { SCRIPT } from "./page_script.ts";

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: light-dark(#666, #a5a5a5); --good: #15803d; --bad: #c0392b; --busy: #96690a;
  --a: #3b82c4; --b: #8e6bbf; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1.2rem; }
header { display: flex; gap: .8rem; align-items: baseline; flex-wrap: wrap; }
h1 { font-size: 1.5rem; margin: 0; letter-spacing: .02em; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
.soft { color: var(--soft); }
.badge { padding: .1rem .6rem; border-radius: 1rem; color: #fff; background: #666; font-size: .85rem; }
.good { background: var(--good); } .bad { background: var(--bad); } .busy { background: var(--busy); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; margin-top: 1rem; }
section { border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem; min-width: 0; }
section.wide { grid-column: 1 / -1; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; text-align: right; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
.bar { height: .5rem; border-radius: .3rem; background: var(--line); overflow: hidden; margin: .5rem 0; }
.bar > i { display: block; height: 100%; background: var(--a); }
svg { width: 100%; height: 6rem; display: block; margin-bottom: .5rem; color: var(--a); }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: normal; color: var(--soft); } td, th { padding: .1rem .6rem .1rem 0; }
td.n, th.n { text-align: right; } .scroll { overflow-x: auto; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: .2em; margin-right: .4em; }
.delta { background: var(--a); } .image { background: var(--b); } .remote { opacity: .35; }
form { margin-top: 1rem; } input, button { font: inherit; padding: .25rem .5rem; }
[hidden] { display: none; }
`;

/** The whole page. */
export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>varve</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>varve</h1>
<span id="state" class="badge" role="status">loading</span>
<span id="about" class="soft"></span>
</header>
<form id="login" hidden>
<label>Token <input id="token" type="password" autocomplete="off"></label> <button>Show</button>
</form>
<main id="main" class="cards"></main>
<noscript>This page needs scripts; <code>v1/status</code> has the same as JSON.</noscript>
<script>${SCRIPT}</script>
</body>
</html>
`;

let policy: Promise<string> | undefined;

/** Content-Security-Policy of the page: only its own style and script, only its own origin to ask. */
export function pagePolicy(): Promise<string> {
  return policy ??=
    (async () =>
      `default-src 'none'; connect-src 'self'; style-src ${await hashOf(STYLE)}; ` +
      `script-src ${await hashOf(SCRIPT)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`)();
}

async function hashOf(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `'sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}'`;
}
