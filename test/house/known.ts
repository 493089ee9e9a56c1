/** What still breaks the rules, without line numbers: this list only shrinks. */
export const KNOWN: ReadonlySet<string> = new Set<string>([
	"test/engine/records.test.ts: no file: it imports records.ts, and there is no such file",
	"build.ts: no file: it imports records.ts, and there is no such file",
]);
