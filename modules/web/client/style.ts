// Plain, readable on a phone, in light and dark.

export const STYLE_CSS = `:root {
  --text: #1b1f23; --soft: #5c6670; --line: #d5dbe1; --back: #f6f7f9; --card: #fff;
  --good: #1a7f37; --warn: #9a6700; --bad: #cf222e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e9ec; --soft: #9aa4ae; --line: #343b43; --back: #14171a; --card: #1d2226;
    --good: #4cc267; --warn: #e0ad3a; --bad: #ff7b72;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem; background: var(--back); color: var(--text); font: 16px/1.45 system-ui, sans-serif; }
header { margin-bottom: .6rem; display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h1 span { font-weight: 400; color: var(--soft); }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
section, .notice { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .9rem; }
.wide { grid-column: 1 / -1; }
.notice { margin: 0 0 1rem; border-color: var(--warn); overflow-wrap: anywhere; }
ul.notice { padding-left: 2rem; }
.badge { margin: 0; padding: .05rem .6rem; border: 1px solid currentColor; border-radius: 1rem; white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); } .soft { color: var(--soft); }
dl { display: grid; grid-template-columns: auto 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; font-variant-numeric: tabular-nums; }
.endpoint + .endpoint, .device + .device { margin-top: 1rem; border-top: 1px solid var(--line); padding-top: 1rem; }
.head { display: flex; flex-wrap: wrap; gap: .2rem .8rem; align-items: baseline; }
code { display: block; padding: .4rem .6rem; background: var(--back); border-radius: .3rem; overflow-wrap: anywhere; font-size: .85rem; user-select: all; }
input { width: 100%; max-width: 24rem; margin-bottom: .8rem; padding: .4rem .6rem; font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line); border-radius: .3rem; }
table { width: 100%; table-layout: fixed; border-collapse: collapse; margin-top: .4rem; font-variant-numeric: tabular-nums; }
th:nth-child(1) { width: 34%; } th:nth-child(3) { width: 22%; } th:nth-child(4) { width: 16%; }
th { text-align: left; font-weight: 400; color: var(--soft); font-size: .85rem; }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.value { font-weight: 600; } td.value span { font-weight: 400; color: var(--soft); }
ol { list-style: none; margin: 0; padding: 0; max-height: 20rem; overflow-y: auto; }
ol li { padding: .15rem 0; overflow-wrap: anywhere; }
footer { margin-top: 1rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 32rem) { body { padding: .6rem; } th, td { padding-right: .5rem; } }
`;
