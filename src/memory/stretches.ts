/** Where RAM and pools lie in the guest's physical address space. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { parseBytes } from "../bytes.ts";
import type { Gpa } from "../types.ts";

/** RAM below 4 GiB ends here; the rest of a bigger guest's RAM starts at 4 GiB, as on a PC. */
export const LOW_RAM_BYTES = 3 * 2 ** 30;
export const FOUR_GIB = 2 ** 32;

/** RAM that lies in one piece, in the guest and in memory. */
export interface RamStretch {
	readonly gpa: Gpa;
	readonly bytes: number;
	readonly ptr?: number;
}

/**
 * The stretches of a guest's RAM, in ascending order; those that adjoin, in memory too, are one.
 * @throws RangeError for a size or stretch that is empty or no multiple of 4096, or stretches that overlap
 */
export function ramStretches(ram: number | string | readonly RamStretch[]): readonly RamStretch[] {
	if (typeof ram === "object") {
		const sorted = [...ram].sort((a, b) => a.gpa - b.gpa);
		for (const [i, { gpa, bytes }] of sorted.entries()) {
			if (!(gpa >= 0 && bytes > 0 && gpa % PAGE_SIZE === 0 && bytes % PAGE_SIZE === 0 && gpa + bytes <= 2 ** 52)) {
				throw new RangeError(`ram: gpa ${gpa} and ${bytes} bytes must be multiples of 4096 below 2^52`);
			}
			const before = sorted[i - 1];
			if (before !== undefined && before.gpa + before.bytes > gpa) {
				throw new RangeError(`ram: the stretch at gpa ${gpa} overlaps the one at gpa ${before.gpa}`);
			}
		}
		if (sorted.length === 0) throw new RangeError("ram: at least one stretch is needed");
		return joined(sorted);
	}
	const bytes = parseBytes(ram);
	if (bytes === 0 || bytes % PAGE_SIZE !== 0) throw new RangeError(`ram: ${ram} is no multiple of 4096 bytes above 0`);
	if (bytes <= LOW_RAM_BYTES) return [{ gpa: 0, bytes }];
	return [
		{ gpa: 0, bytes: LOW_RAM_BYTES },
		{ gpa: FOUR_GIB, bytes: bytes - LOW_RAM_BYTES },
	];
}

/** Joins stretches that adjoin in the guest, and in memory if they have a ptr. */
function joined(sorted: readonly RamStretch[]): RamStretch[] {
	const out: RamStretch[] = [];
	for (const stretch of sorted) {
		const last = out.at(-1);
		const adjoins =
			last !== undefined &&
			last.gpa + last.bytes === stretch.gpa &&
			(last.ptr === undefined ? stretch.ptr === undefined : last.ptr + last.bytes === stretch.ptr);
		if (adjoins) out[out.length - 1] = { ...last, bytes: last.bytes + stretch.bytes };
		else out.push(stretch);
	}
	return out;
}

/**
 * The highest page-aligned place for a pool below 4 GiB, where Linux's default pool lies, or else above.
 * @param anywhere above 4 GiB first (SWIOTLB_ANY)
 * @throws RangeError when it fits nowhere
 */
export function placePool(
	regions: readonly RamStretch[],
	taken: readonly { readonly start: Gpa; readonly bytes: number }[],
	bytes: number,
	anywhere = false,
): Gpa {
	for (const low of [!anywhere, anywhere]) {
		for (const region of [...regions].reverse()) {
			if (region.gpa < FOUR_GIB !== low) continue;
			let end = region.gpa + region.bytes;
			if (low) end = Math.min(end, FOUR_GIB);
			for (;;) {
				const start = end - bytes;
				if (start < region.gpa) break;
				const other = taken.find((pool) => start < pool.start + pool.bytes && end > pool.start);
				if (other === undefined) return start;
				end = other.start;
			}
		}
	}
	const largest = Math.max(0, ...regions.map((region) => region.bytes));
	throw new RangeError(
		`a pool of ${bytes} bytes fits into no stretch of RAM: the largest has ${largest} bytes, less the pools in it`,
	);
}
