/** What still breaks the rules, without line numbers: this list only shrinks. */
export const KNOWN: ReadonlySet<string> = new Set<string>([

]);
