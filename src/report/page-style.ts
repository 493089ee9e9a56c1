/** What every HTML page of ours looks like: light and dark, headings, notes, tables. */
export const PAGE_STYLE = `
:root { --direct: #2f6fde; --bounce: #d9662b; --device: #9aa3ad; --text: #1c2126; --faint: #667; --line: #dde1e6; --back: #fff; }
@media (prefers-color-scheme: dark) {
	:root { --direct: #6aa1ff; --bounce: #f0915c; --device: #6b737c; --text: #e6e9ec; --faint: #9aa3ad; --line: #333a42; --back: #15181b; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { margin: 0; } h2 { margin: 2.2rem 0 .5rem; font-size: 1.25rem; } h3 { margin: 1.6rem 0 .5rem; font-size: 1rem; }
.lead { font-size: 1.1rem; max-width: 48rem; } .note { color: var(--faint); font-size: .85rem; margin: .3rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .9rem .15rem 0; text-align: right; border-bottom: 1px solid var(--line); }
tbody th { font-weight: normal; text-align: left; white-space: pre; } thead th { font-weight: 600; }
`;
