/** Verdicts in words: the one place where they are made. */

import type { PredicateStep } from "../coco/guest/steps.ts";
import { trustText } from "../coco/trust/error.ts";
import type { Cause, CauseCount } from "../study/cause.ts";
import type { Cell, CellPart } from "../study/cell.ts";
import type { Verdict, VerdictKind } from "../study/verdict.ts";
import { formatNumber } from "./units.ts";

/** Of a cause, what stands behind the verdict's word. */
export function causeText(cause: Cause): string {
	switch (cause.what) {
		case "status":
			return cause.status;
		case "crash":
			return `${cause.where}: ${cause.why}`;
		case "device-gets":
			return `the device gets ${cause.result}`;
		case "device-stopped":
			return `the device is stopped: ${cause.violation}`;
		case "write-corrupts":
			return "the device's write corrupts private memory";
		case "write-lost":
			return "the device's bytes do not arrive";
		case "contents-lost":
			return "the data is lost by the conversion";
		case "private-form":
			return "the address has the private form, the peer's BAR is shared";
		case "no-such-memory":
			return "the guest has no such memory";
		case "transition":
			return `accept under a mapping: ${cause.status}`;
		case "trust": {
			const { step, status, detail } = cause;
			return `${step}: ${status}: ${trustText(status)}${detail === "" ? "" : ` (${detail})`}`;
		}
		case "no-fallback":
			return "the confidential connection failed, and the guest does not fall back";
		case "no-tdisp":
			return "a VMBus device is trusted by its offer, and has no TDISP interface to accept";
	}
}

/** How often what happened, in a line. */
export function causeCounts(counts: readonly CauseCount[]): string {
	return counts.map(({ cause, count }) => `${formatNumber(count)} ${causeText(cause)}`).join(", ");
}

/** The predicates that decided, in a line; "" where none was asked. */
export function becauseText(steps: readonly PredicateStep[]): string {
	return steps.map(({ predicate, value, why }) => `${predicate} ${value}: ${why}`).join("; ");
}

/** One thing that a verdict says. */
interface Saying {
	readonly kind: VerdictKind;
	readonly text: string;
}

/**
 * How much is said. full: "BREACH 4,096 bytes", and why it did not work. brief: the same with "B" for bytes. least: brief,
 * without the reason.
 */
type Wording = "full" | "brief" | "least";

/** What a verdict says: what became of bytes, and then whether it worked. */
function sayings(verdict: Verdict, wording: Wording): Saying[] {
	const { confidential, bytes, hiddenBytes, neighbourBytes, cause } = verdict;
	const amount = (count: number) => `${count.toLocaleString("en-US")}${wording === "full" ? " bytes" : "\u00a0B"}`;
	const own = confidential ? "BREACH" : "exposed";
	const said: Saying[] = [];
	if (bytes > 0) said.push({ kind: own, text: `${own} ${amount(bytes)}` });
	if (neighbourBytes > 0) said.push({ kind: "exposed", text: `${amount(neighbourBytes)} of neighbours exposed` });
	if (cause !== null) {
		const kind = cause.what === "crash" ? "crash" : "refused";
		said.push({ kind, text: wording === "least" ? kind : `${kind}: ${causeText(cause)}` });
	}
	if (hiddenBytes > 0) said.push({ kind: "hidden", text: `private (${amount(hiddenBytes)} hidden from the host)` });
	return said.length === 0 ? [{ kind: "private", text: "private" }] : said;
}

/** A verdict in a line. */
export function verdictText(verdict: Verdict): string {
	return sayings(verdict, "full")
		.map(({ text }) => text)
		.join(", ");
}

/** A verdict in short lines, each with its kind. */
export function verdictLines(verdict: Verdict): Saying[] {
	return sayings(verdict, "brief");
}

/** A platform, and how addresses look there. */
export function placeText({ platform, encoded }: Pick<Verdict, "platform" | "encoded">): string {
	return encoded ? platform : `${platform}, plain addresses`;
}

function isElsewhere({ verdict }: CellPart, { verdict: first }: CellPart): boolean {
	return verdict.platform !== first.platform || verdict.encoded !== first.encoded;
}

/** A cell in a line: its first part, and what comes to something of another kind. */
export function cellText({ parts }: Pick<Cell, "parts">): string {
	const [first, ...others] = parts.filter(({ told }) => told);
	if (first === undefined) return "";
	const said = others.map((part) => {
		const { group, verdict } = part;
		const where = isElsewhere(part, first)
			? `${group} on ${placeText(verdict)}`
			: group === "streaming"
				? verdict.part
				: group;
		return `${where} ${verdictText(verdict)}`;
	});
	return [verdictText(first.verdict), ...said].join("; ");
}

function briefPlace(part: CellPart, first: CellPart): string {
	const { group, dir, verdict } = part;
	if (isElsewhere(part, first)) return verdict.encoded ? verdict.platform : `${verdict.platform}, plain`;
	return group === "streaming" ? dir : group;
}

/** A cell in short lines, each with its worst kind: its first part, and in a word what comes to something of another kind. */
export function cellLines({ parts }: Pick<Cell, "parts">): Saying[] {
	const [first, ...others] = parts.filter(({ told }) => told);
	if (first === undefined) return [];
	const told = new Map<string, readonly string[]>();
	const more = others.flatMap((part) => {
		const where = briefPlace(part, first);
		const said = sayings(part.verdict, "least").map(({ text }) => text);
		// the same platform's coherent buffers, say, which only fail where its streaming ones leak and fail
		if (said.every((text) => told.get(where)?.includes(text))) return [];
		told.set(where, said);
		return [{ kind: part.verdict.kind, text: `${where}: ${said.join(" + ")}` }];
	});
	return [...verdictLines(first.verdict), ...more];
}
