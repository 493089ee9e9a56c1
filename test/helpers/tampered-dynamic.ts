/** Recordings of a kernel whose swiotlb grows, each with one thing changed, and the difference that has to be found. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

export function dynamicText(name: string): string {
	const path = new URL(`../golden/swiotlb-dynamic/${name}.txt.gz`, import.meta.url).pathname;
	return gunzipSync(readFileSync(path)).toString();
}

const net = dynamicText("dyn-net");
const burst = dynamicText("dyn-burst");
const lowmem = dynamicText("dyn-lowmem");

export interface Tampered {
	readonly name: string;
	readonly text: string;
	/** The line to change: the nth that matches. */
	readonly at: RegExp;
	readonly nth?: number;
	readonly by: (line: string) => string | null;
	/** How far behind the changed line the difference shows. */
	readonly later?: number;
	readonly what: string | RegExp;
	readonly expected: string | RegExp;
	readonly got: string | RegExp;
}

const GONE = "0xffffffffffffffff";
export const TAMPERED: readonly Tampered[] = [
	{
		name: "an address in a common pool",
		text: net,
		at: /^map .* pool=0x26f40000$/,
		nth: 50,
		by: (line) => line.replace(/-> 0x[0-9a-f]+/, "-> 0x26f40000"),
		what: /^tlb of map \d+$/,
		expected: "0x26f40000",
		got: /^0x26f[0-9a-f]{5}$/,
	},
	{
		name: "an address in a transient pool",
		text: burst,
		at: /^map 10 /,
		by: (line) => line.replace("-> 0x8140200", "-> 0x8140400"),
		what: "tlb of map 10",
		expected: "0x8140400",
		got: "0x8140200",
	},
	{
		name: "the start of a transient pool",
		text: burst,
		at: /^pool_add 9 /,
		by: (line) => line.replace("start=0x8140000", "start=0x8141000"),
		later: 1,
		what: "tlb of map 10",
		expected: "0x8140200",
		got: "0x8141200",
	},
	{
		name: "the slots of a transient pool",
		text: burst,
		at: /^pool_add 9 /,
		by: (line) => line.replace("nslabs=56", "nslabs=57"),
		later: 1,
		what: "slots of the transient pool",
		expected: "57",
		got: "56",
	},
	{
		name: "an unusable transient pool that is said to have served",
		text: burst,
		at: /^map 107 /,
		by: (line) => line.replace(`${GONE} why=unusable`, "0x2968000 pool=0x2968000"),
		what: "tlb of map 107",
		expected: "0x2968000",
		got: "UNUSABLE_POOL",
	},
	{
		name: "a transient pool that served and is said to be unusable",
		text: burst,
		at: /^map 10 /,
		by: (line) => line.replace("0x8140200 pool=0x8140000", `${GONE} why=unusable`),
		what: "tlb of map 10",
		expected: "UNUSABLE_POOL",
		got: "0x8140200",
	},
	{
		name: "an unusable pool that is said not to have been made",
		text: burst,
		at: /^map 107 /,
		by: (line) => line.replace("why=unusable", "why=nomem"),
		what: "why map 107 failed",
		expected: "nomem",
		got: "unusable",
	},
	{
		name: "no memory that is said to be an unusable pool",
		text: lowmem,
		at: /^map 6576 /,
		by: (line) => line.replace("why=nomem", "why=unusable"),
		what: "why map 6576 failed",
		expected: "unusable",
		got: "nomem",
	},
	{
		name: "no memory although a common pool has room",
		text: burst,
		at: /^map 12 /,
		by: (line) => line.replace(/0x[0-9a-f]+ pool=.*/, `${GONE} why=nomem`),
		what: "common pools for map 12",
		expected: "NEEDS_TRANSIENT",
		got: "0x26f6d000",
	},
	{
		name: "an address although no common pool has room",
		text: lowmem,
		at: /^map 6576 /,
		by: (line) => line.replace(`${GONE} why=nomem`, "0x800400 pool=0x800000"),
		what: "tlb of map 6576",
		expected: "0x800400",
		got: "NEEDS_TRANSIENT",
	},
	{
		name: "a transient pool that was never made",
		text: burst,
		at: /^pool_add 9 /,
		by: () => null,
		what: "tlb of map 10",
		expected: "0x8140200",
		got: "NEEDS_TRANSIENT",
	},
	{
		name: "a transient pool that never ends",
		text: burst,
		at: /^pool_del 16 /,
		by: () => null,
		what: "transient pool",
		expected: "still there",
		got: "0x8140000 ended",
	},
	{
		name: "the end of another transient pool",
		text: burst,
		at: /^pool_del 16 /,
		by: (line) => line.replace("0x8140000", "0x8160000"),
		what: "transient pool that ended",
		expected: "0x8160000",
		got: "0x8140000",
	},
	{
		name: "the end of a transient pool that none came to",
		text: burst,
		at: /^map 12 /,
		by: (line) => `${line}\npool_del 12 start=0x8140000 why=unmapped`,
		later: 1,
		what: "transient pool that ended",
		expected: "0x8140000",
		got: "none",
	},
	{
		name: "growth said to be queued twice",
		text: burst,
		at: /^#slow .* queued=0$/,
		by: (line) => line.replace("queued=0", "queued=1"),
		what: "growth newly queued",
		expected: "1",
		got: "0",
	},
	{
		name: "growth said not to be queued",
		text: burst,
		at: /^#slow .* queued=1$/,
		nth: 2,
		by: (line) => line.replace("queued=1", "queued=0"),
		what: "growth newly queued",
		expected: "0",
		got: "1",
	},
	...(
		[
			["io_tlb_used", /\bio_tlb_used=0/, "io_tlb_used=1", "1", "0"],
			["io_tlb_used_hiwater", /hiwater=5/, "hiwater=6", "6", "5"],
			["io_tlb_nslabs", /io_tlb_nslabs=128/, "io_tlb_nslabs=256", "256", "128"],
			["io_tlb_transient_nslabs", /transient_nslabs=0/, "transient_nslabs=1", "1", "0"],
		] as const
	).map(([what, from, to, expected, got]) => ({
		name: `the ${what} of a stat line`,
		text: net,
		at: /^stat 11 /,
		by: (line: string) => line.replace(from, to),
		what,
		expected,
		got,
	})),
	...(
		[
			["io_tlb_used", /io_tlb_used=232/, "io_tlb_used=231", "231", "232"],
			["io_tlb_used_hiwater", /hiwater=487/, "hiwater=488", "488", "487"],
			["io_tlb_nslabs", /io_tlb_nslabs=512/, "io_tlb_nslabs=640", "640", "512"],
		] as const
	).map(([what, from, to, expected, got]) => ({
		name: `the ${what} of the end`,
		text: net,
		at: /^# end:/,
		by: (line: string) => line.replace(from, to),
		what,
		expected,
		got,
	})),
	{
		name: "the use of an area of the end",
		text: net,
		at: /^# end_pool start=0x82c0000/,
		by: (line) => line.replace("used=70", "used=71"),
		what: "area 0 used",
		expected: "71",
		got: "70",
	},
	{
		name: "the index of an area of the end",
		text: net,
		at: /^# end_pool start=0x26f40000/,
		by: (line) => line.replace("index=91", "index=90"),
		what: "area 0 index",
		expected: "90",
		got: "91",
	},
	{
		name: "the order of the pools of the end",
		text: net,
		at: /^# end_pool start=0x8380000/,
		by: (line) => line.replace("0x8380000", "0x8240000"),
		what: "pool of the list, newest first",
		expected: "0x8240000",
		got: "0x8380000",
	},
	{
		name: "a pool more at the end",
		text: net,
		at: /^# end_pool start=0x26f40000/,
		by: (line) => `${line}\n${line}`,
		later: 1,
		what: "pool of the list, newest first",
		expected: "0x26f40000",
		got: "none",
	},
	{
		name: "a pool less at the end",
		text: net,
		at: /^# end_pool start=0x26f40000/,
		by: () => null,
		what: "pool of the list, newest first",
		expected: "none",
		got: "0x26f40000",
	},
	{
		name: "the size of a new pool",
		text: burst,
		at: /^pool_add .* transient=0 /,
		nth: 2,
		by: (line) => line.replace("nslabs=128", "nslabs=256"),
		what: "size of the new pool",
		expected: "256 slots, 1 areas",
		got: "one of 128 slots, 1 areas",
	},
	{
		name: "an unmap of what is not mapped",
		text: burst,
		at: /^unmap 11 /,
		by: (line) => `${line}\n${line}`,
		later: 1,
		what: "unmap",
		expected: "a live mapping",
		got: "NOT_MAPPED",
	},
];
