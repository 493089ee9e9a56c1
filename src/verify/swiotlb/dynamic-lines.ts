/** Lines of `swiotlb-dynamic` recordings that tell of pools. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { Fields } from "../../fields.ts";

/** A `pool_add` line. */
export interface PoolAdd {
	readonly start: number;
	readonly slabs: number;
	readonly areas: number;
	readonly transient: boolean;
}

/** The value of `name=` at a field. @throws InputError */
export function named(f: Fields, index: number, name: string, pattern: RegExp): string {
	const text = f.text(index, name);
	const value = text.startsWith(`${name}=`) ? text.slice(name.length + 1) : "";
	if (!pattern.test(value)) throw f.error(name, `${name}=…`, text);
	return value;
}

/** @throws InputError for a pool that cannot be */
export function readPoolAdd(f: Fields): PoolAdd {
	const add = {
		start: Number(named(f, 2, "start", /^0x[0-9a-f]{1,13}$/)),
		slabs: Number(named(f, 3, "nslabs", /^\d{1,7}$/)),
		areas: Number(named(f, 4, "nareas", /^\d{1,4}$/)),
		transient: named(f, 6, "transient", /^[01]$/) === "1",
	};
	if (add.start % PAGE_SIZE !== 0 || add.start + add.slabs * 2048 > 2 ** 52)
		throw f.error("start", "a page-aligned address of a pool that ends below 2^52");
	const sizes = add.transient
		? add.slabs >= 1 && add.slabs <= 128 && add.areas === 1
		: add.slabs >= 128 && add.slabs <= 2 ** 20 && add.slabs % 128 === 0 && Number.isInteger(Math.log2(add.areas));
	if (!sizes) throw f.error("nslabs", "1 to 128 slots in one area if transient, else whole areas of 128 and more");
	return add;
}

/** The pools that a recording adds, and how many slots together. */
export function poolsOf(path: string, lines: readonly string[]): { start: number; bytes: number }[] {
	const pools: { start: number; bytes: number }[] = [];
	for (const [i, line] of lines.entries()) {
		if (!line.startsWith("pool_add ")) continue;
		const { start, slabs } = readPoolAdd(new Fields(path, i + 1, line));
		pools.push({ start, bytes: Math.ceil(slabs / 2) * PAGE_SIZE });
	}
	return pools;
}
