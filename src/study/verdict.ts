/** What a run came to, as a value: made where it is known, combined by cells, put into words in report/ alone. */
import type { HazardName } from "../coco/memory/hazard.ts";
import type { Cause } from "./cause.ts";

/**
 * The worst first. BREACH: the host could read bytes of a confidential device, or a neighbour's that a page took along. crash:
 * the kernel ends. undefined: the kernel reads memory as what it is not. refused: it did not work. exposed: the host could read
 * bytes that are not confidential. hidden: bytes lie on pages that are decrypted and that the host does not map. private: none
 * of these. not applicable: there is no such thing to run.
 */
export const VERDICT_KINDS = [
	"BREACH",
	"crash",
	"undefined",
	"refused",
	"exposed",
	"hidden",
	"private",
	"not applicable",
] as const;
export type VerdictKind = (typeof VERDICT_KINDS)[number];

/** What became of a part. Bytes are of private origin, and count each time that they reach a page. */
export interface Verdict {
	/** The worst that it comes to. */
	readonly kind: VerdictKind;
	/** What else it comes to, the worst first. */
	readonly also: readonly VerdictKind[];
	/** The part that ran. */
	readonly part: string;
	/** Name of the platform that it ran on. */
	readonly platform: string;
	/** false: DMA addresses are plain there, and whoever serves the device tells private from shared by the page. */
	readonly encoded: boolean;
	/** Whether the device's data is confidential: what its offer or its accepted state says, whatever the policy believes. */
	readonly confidential: boolean;
	/** The device's own bytes, on pages that the host reads. */
	readonly bytes: number;
	/** Of them, the most that one look at its memory shows; null: nobody looked while it ran. */
	readonly atOnceBytes: number | null;
	/** How many contents of the buffer they are: the driver's, then the device's. */
	readonly generations: number;
	/** The device's own bytes, on decrypted pages that the host does not map. */
	readonly hiddenBytes: number;
	/** Bytes of nobody's request that became readable beside them: page granularity. */
	readonly neighbourBytes: number;
	/** Why it did not work, or null: it did. */
	readonly cause: Cause | null;
	/** What the kernel did that it may not do there, each once. */
	readonly hazards: readonly HazardName[];
}

/** What kind of verdict a cause makes. */
export function causeKind({ what }: Cause): VerdictKind {
	if (what === "crash" || what === "undefined") return what;
	return what === "not-applicable" ? "not applicable" : "refused";
}

/** The verdict that facts come to. */
export function verdictOf(facts: Omit<Verdict, "kind" | "also">): Verdict {
	const { confidential, bytes, hiddenBytes, neighbourBytes, cause } = facts;
	const is = new Set<VerdictKind>(cause === null ? [] : [causeKind(cause)]);
	if ((confidential && bytes > 0) || neighbourBytes > 0) is.add("BREACH");
	if (!confidential && bytes > 0) is.add("exposed");
	if (hiddenBytes > 0) is.add("hidden");
	const [kind = "private", ...also] = VERDICT_KINDS.filter((each) => is.has(each));
	return { kind, also, ...facts };
}

/** Facts of a verdict in which no byte went anywhere. */
export const NO_BYTES = { bytes: 0, atOnceBytes: 0, generations: 0, hiddenBytes: 0, neighbourBytes: 0 } as const;

/** The worst kind of several verdicts. None: private. */
export function worstKind(verdicts: readonly Pick<Verdict, "kind">[]): VerdictKind {
	return VERDICT_KINDS.find((each) => verdicts.some(({ kind }) => kind === each)) ?? "private";
}
