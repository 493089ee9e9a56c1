/** What recordings of a running kernel have in common: their first line, and the RAM that they touch. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { Fields } from "../../fields.ts";
import { InputError, shown } from "../../input-error.ts";
import type { Gpa } from "../../types.ts";
import { TouchedStretches } from "../stretches.ts";

const MAX_U64 = 2n ** 64n - 1n;
/** Devices of a recording: an engine has 4096, and races need some of them. */
const MAX_DEVICES = 2048;

export interface KernelHeader {
	readonly poolStart: number;
	readonly slabs: number;
	readonly areas: number;
	readonly devices: ReadonlyMap<string, { readonly minAlignMask: number; readonly segBoundaryMask: bigint }>;
}

/** The value of `name=` in a header line. @throws InputError when there is none */
function headerValue(path: string, line: string, name: string, pattern: string): string {
	const match = new RegExp(`\\b${name}=(${pattern})`).exec(line);
	if (match === null) throw new InputError(`${path}:1: header: expected ${name}=`);
	return match[1] as string;
}

interface Range {
	readonly start: number;
	readonly bytes: number;
}

/** The boot pool and the devices. @throws InputError for a header that names them not or wrongly */
export function readKernelHeader(path: string, line: string): KernelHeader {
	const poolStart = Number(headerValue(path, line, "pool_start", "0x[0-9a-f]+"));
	const slabs = Number(headerValue(path, line, "nslabs", "\\d+"));
	const areas = Number(headerValue(path, line, "nareas", "\\d+"));
	if (!(slabs > 0 && slabs <= 2 ** 20 && slabs % 128 === 0))
		throw new InputError(`${path}:1: nslabs: expected a multiple of 128 up to 1048576`);
	if (poolStart % PAGE_SIZE !== 0 || poolStart + slabs * 2048 > 2 ** 52)
		throw new InputError(`${path}:1: pool_start: expected a page-aligned address of a pool that ends below 2^52`);
	if (!Number.isInteger(Math.log2(areas)) || areas > slabs / 128)
		throw new InputError(`${path}:1: nareas: expected a power of two up to nslabs / 128`);
	const devices = new Map<string, { minAlignMask: number; segBoundaryMask: bigint }>();
	const list = /devices: (.*)$/.exec(line)?.[1] ?? "";
	const count = list.split(";").length;
	if (count > MAX_DEVICES)
		throw new InputError(`${path}:1: devices: expected at most ${MAX_DEVICES} devices, found ${count}`);
	for (const entry of list.split(";")) {
		const match = /^\s*(\S+) min_align_mask=(0x[0-9a-f]{1,8}) seg_boundary=(0x[0-9a-f]{1,16})\s*$/.exec(entry);
		if (match === null)
			throw new InputError(
				`${path}:1: devices: expected "<dev> min_align_mask=0x… seg_boundary=0x…", found ${shown(entry.trim())}`,
			);
		const boundary = BigInt(match[3] as string);
		if ((boundary & (boundary + 1n)) !== 0n)
			throw new InputError(`${path}:1: seg_boundary: expected a mask of the form 2^k - 1, found ${shown(match[3])}`);
		devices.set(match[1] as string, {
			minAlignMask: Number(match[2]),
			segBoundaryMask: boundary === MAX_U64 ? 0n : boundary,
		});
	}
	return { poolStart, slabs, areas, devices };
}

/** The stretches that the recording's originals touch, and its pools. */
export function stretchesOf(
	path: string,
	lines: readonly string[],
	header: KernelHeader,
	pools: readonly Range[] = [],
): { gpa: Gpa; bytes: number }[] {
	const touched = new TouchedStretches();
	touched.add(header.poolStart, header.slabs * 2048);
	for (const pool of pools) touched.add(pool.start, pool.bytes);
	for (const [i, line] of lines.entries()) {
		if (!line.startsWith("map ")) continue;
		const f = new Fields(path, i + 1, line);
		const orig = f.address(4, "orig_addr");
		const bytes = f.decimal(5, "size", 1, 2 ** 31 - 1);
		if (orig + bytes > 2 ** 52) throw f.error("orig_addr", "a range below 2^52", f.text(4, "orig_addr"));
		touched.add(orig, bytes);
	}
	return touched.stretches(path);
}
