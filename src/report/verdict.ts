/** Verdicts in words: the one place where they are made. */

import type { PredicateStep } from "../coco/guest/steps.ts";
import type { HazardName } from "../coco/memory/hazard.ts";
import { trustText } from "../coco/trust/error.ts";
import type { Cause, CauseCount, Needed } from "../study/cause.ts";
import type { Cell, CellPart } from "../study/cell.ts";
import { causeKind, type Verdict, type VerdictKind } from "../study/verdict.ts";
import { formatNumber } from "./units.ts";

/** What there is none of, where there is nothing to run. */
const NEEDS: Readonly<Record<Needed, string>> = {
	memory: "the guest has no such memory",
	"tdisp-interface": "a VMBus device is trusted by its offer, and has no TDISP interface to accept",
	"private-memory": "the platform has no memory that the host cannot read",
	"hidden-pages": "the platform has no decrypted pages that the host does not map",
	attribute: "the kernel does not know the attribute",
};

/** What a hazard is called. */
const HAZARDS: Readonly<Record<HazardName, { readonly full: string; readonly brief: string }>> = {
	PAGE_STATE: { full: "a page is not in the state that it is taken for", brief: "page state" },
	SLEEPING_IN_ATOMIC: { full: "sleeps where it may not", brief: "sleeps in atomic" },
	TRUST_CHANGED: { full: "trust changed under held memory", brief: "trust changed" },
	POOL_STATE_UNKNOWN: { full: "the pool's state is not known", brief: "pool state unknown" },
};

function bytesText(bytes: number): string {
	return `${bytes.toLocaleString("en-US")} bytes`;
}

/** Of a cause, what stands behind the verdict's word. */
export function causeText(cause: Cause): string {
	switch (cause.what) {
		case "status":
			return cause.status;
		case "crash":
		case "undefined":
			return `${cause.where}: ${cause.why}`;
		case "refuses-to-bounce":
			return "the policy refuses to bounce";
		case "over-max":
			return `${bytesText(cause.bytes)} are more than dma_max_mapping_size, ${bytesText(cause.maxBytes)}`;
		case "not-applicable":
			return NEEDS[cause.needs];
		case "device-gets":
			return `the device gets ${cause.result}`;
		case "device-stopped":
			return `the device is stopped: ${cause.violation}`;
		case "write-corrupts":
			return "the device's write corrupts private memory";
		case "write-lost":
			return "the device's bytes do not arrive";
		case "sync-lost":
			return "dma_sync brings none of the device's bytes";
		case "contents-lost":
			return "the data is lost by the conversion";
		case "private-form":
			return "the address has the private form, the peer's BAR is shared";
		case "transition":
			return `accept under a mapping: ${cause.status}`;
		case "trust": {
			const { step, status, detail } = cause;
			return `${step}: ${status}: ${trustText(status)}${detail === "" ? "" : ` (${detail})`}`;
		}
		case "no-fallback":
			return "the confidential connection failed, and the guest does not fall back";
		case "no-driver":
			return "user space does not load the driver: nothing is mapped";
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

/** What a verdict says: what became of bytes, then whether it worked, then what the kernel may not do. */
function sayings(verdict: Verdict, wording: Wording): Saying[] {
	const { kind, confidential, bytes, atOnceBytes, generations, hiddenBytes, neighbourBytes, cause, hazards } = verdict;
	const amount = (count: number) => `${count.toLocaleString("en-US")}${wording === "full" ? " bytes" : "\u00a0B"}`;
	const own = confidential ? "BREACH" : "exposed";
	const several =
		atOnceBytes === null || atOnceBytes >= bytes
			? ""
			: wording === "full"
				? ` (${generations} generations of content, ${amount(atOnceBytes)} at one look)`
				: ` (${atOnceBytes.toLocaleString("en-US")} at one look)`;
	const said: Saying[] = [];
	if (bytes > 0) said.push({ kind: own, text: `${own} ${amount(bytes)}${several}` });
	if (neighbourBytes > 0) said.push({ kind: "BREACH", text: `BREACH ${amount(neighbourBytes)} of neighbours` });
	if (cause !== null) {
		const word = causeKind(cause);
		const why = wording === "brief" && cause.what === "trust" ? cause.status : causeText(cause);
		said.push({ kind: word, text: wording === "least" ? word : `${word}: ${why}` });
	}
	if (hiddenBytes > 0) said.push({ kind: "hidden", text: `private (${amount(hiddenBytes)} hidden from the host)` });
	const whole: Saying[] = said.length === 0 ? [{ kind: "private", text: "private" }] : said;
	const how = wording === "full" ? "full" : "brief";
	return [...whole, ...hazards.map((hazard): Saying => ({ kind, text: `hazard: ${HAZARDS[hazard][how]}` }))];
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

/** A part's own name, and its platform if that is another. */
function partText(part: CellPart, first: CellPart): string {
	const { group, verdict } = part;
	const name = group === "streaming" || group === "synced" ? verdict.part : group;
	return isElsewhere(part, first) ? `${name} on ${placeText(verdict)}` : name;
}

/** A cell in a line: its first part, and what comes to something of another kind. */
export function cellText({ parts }: Pick<Cell, "parts">): string {
	const [first, ...others] = parts.filter(({ told }) => told);
	if (first === undefined) return "";
	return [
		verdictText(first.verdict),
		...others.map((part) => `${partText(part, first)} ${verdictText(part.verdict)}`),
	].join("; ");
}

/** The same in a few characters. */
function briefPart(part: CellPart, first: CellPart): string {
	const { group, dir, verdict } = part;
	const name = group === "streaming" ? dir : group === "synced" ? `${dir}, synced` : group;
	if (!isElsewhere(part, first)) return name;
	return `${name} on ${verdict.encoded ? verdict.platform : `${verdict.platform}, plain`}`;
}

/** A cell in short lines, each with its worst kind: its first part, and in a word what comes to something of another kind. */
export function cellLines({ parts }: Pick<Cell, "parts">): Saying[] {
	const [first, ...others] = parts.filter(({ told }) => told);
	if (first === undefined) return [];
	const more = others.map((part): Saying => {
		const said = sayings(part.verdict, "least").map(({ text }) => text);
		return { kind: part.verdict.kind, text: `${briefPart(part, first)}: ${said.join(" + ")}` };
	});
	return [...verdictLines(first.verdict), ...more];
}
