/** What was refused, in words. */

import type { FirstRefusal } from "../study/refusal.ts";
import type { RunResult } from "../study/run.ts";
import { refusalAdvice } from "./refusal.ts";
import { exactBytes, formatNumber, SIZE } from "./units.ts";

type Facts = Pick<RunResult, "requests" | "served" | "failures" | "firstRefused" | "servingPool">;

/** The first refused command, in a sentence. */
export function firstRefusal({ request, line, bytes, status, pool, why }: FirstRefusal): string {
	const where = line === null ? "" : ` (line ${formatNumber(line)} of the trace)`;
	const facts =
		pool === null
			? ""
			: `: ${formatNumber(pool.wantedSlots)} slots wanted, longest free run ${formatNumber(pool.longestFreeRunSlots)}, ${formatNumber(pool.usedSlots)} of ${formatNumber(pool.slots)} slots used`;
	return `The first was request ${formatNumber(request)}${where}, ${exactBytes(bytes)}, ${status}${facts}.${why === null ? "" : ` ${refusalAdvice(why)}`}`;
}

function whatServes({ servingPool }: Facts): string {
	if (servingPool === null) return "It has no pool that could be larger.";
	const { bytes, triedBytes } = servingPool;
	if (bytes !== null) return `A pool of ${SIZE.write(bytes)} would serve all of them.`;
	if (triedBytes === null) return "No larger pool fits into the guest.";
	return `No pool up to ${SIZE.write(triedBytes)}, the largest that fits into the guest, would serve all of them.`;
}

/** How many of how many failed, the first, and what would serve all; null: none failed. @param who the mode or the policy */
export function refusedWords(who: string, facts: Facts): string | null {
	const { requests, served, failures, firstRefused } = facts;
	if (firstRefused === null) return null;
	const reasons = Object.entries(failures).map(([status, count]) => `${formatNumber(count ?? 0)} ${status}`);
	return `${who}: ${formatNumber(requests - served.requests)} of ${formatNumber(requests)} requests failed (commands refused: ${reasons.join(", ")}). ${firstRefusal(firstRefused)} ${whatServes(facts)}`;
}

/** What refusals do to a comparison. */
export const NOT_COMPARABLE =
	"Figures are over what was served, and the columns are not comparable: they did not serve the same requests.";
