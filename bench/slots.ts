/** Suite slots: the slot allocator alone. */
import { BENCH_DIGEST } from "../assembly/bench/layout.ts";
import { PlainSlots, PlainState } from "./plain.ts";
import { MIB, openStage } from "./stage.ts";
import type { Case, Runner, Suite, Target } from "./suite.ts";

const POOL_BYTES = 64 * MIB;
const SLOTS = POOL_BYTES / 2048;
const CHECK_OPS = 20_000;

interface SlotsCase extends Case {
	/** One request (bytes). */
	readonly request: number;
	readonly minAlignMask: number;
	/** In flight: a power of two; 0: requests that fail. */
	readonly depth: number;
	readonly randomly?: boolean;
	/** Mappings of 1 .. maxSlots fill the pool, then random ones go until this share is used. */
	readonly fragmented?: { readonly maxSlots: number; readonly percent: number };
	readonly oddPairs?: boolean;
	/** Summaries are reset before each request. */
	readonly cold?: boolean;
}

const bare: Target = { of: "engine", over: "bare bitmap", atMost: 1.3 };

function faster(times: number): Target {
	return { of: "reference", over: "engine", atLeast: times };
}

function size(slots: number): string {
	return slots === 1 ? "2 KiB" : `${slots * 2} KiB`;
}

function fifo(slots: number, depth: number, minAlignMask: number): SlotsCase {
	const times = slots === 128 ? 6 : depth === 1 ? 3 : 2;
	return {
		name: `${size(slots)} FIFO, ${depth} in flight${minAlignMask === 0 ? "" : ", min_align_mask 0xfff"}`,
		request: slots * 2048,
		minAlignMask,
		depth,
		targets: [faster(times), bare],
	};
}

const cases: SlotsCase[] = [
	...[1, 2, 4, 16, 32, 128].flatMap((slots) => [fifo(slots, 1, 0), fifo(slots, 32, 0)]),
	...[2, 32, 128].flatMap((slots) => [fifo(slots, 1, 0xfff), fifo(slots, 32, 0xfff)]),
	...[0, 0xfff].flatMap((minAlignMask) =>
		[1, 2, 32].map((slots) => ({
			name: `${size(slots)} random release, 32 in flight${minAlignMask === 0 ? "" : ", min_align_mask 0xfff"}`,
			request: slots * 2048,
			minAlignMask,
			depth: 32,
			randomly: true,
			targets: [bare],
		})),
	),
	...[
		{ slots: 2, percent: 99 },
		{ slots: 8, percent: 90 },
		{ slots: 32, percent: 75 },
	].map(({ slots, percent }) => ({
		name: `${size(slots)} random release, 32 in flight, fragmented pool ${percent} % used`,
		request: slots * 2048,
		minAlignMask: 0xfff,
		depth: 32,
		randomly: true,
		fragmented: { maxSlots: 16, percent },
		targets: [],
	})),
	...[0xfff, 0x7ff].flatMap((minAlignMask) =>
		[false, true].map((cold) => ({
			name: `64 KiB fails, fragmented pool, stride ${(minAlignMask >> 11) + 1}, summaries ${cold ? "all reset" : "warm"}`,
			request: 65536,
			minAlignMask,
			depth: 0,
			fragmented: { maxSlots: 1, percent: 50 },
			cold,
			targets: cold ? [] : [faster(300)],
		})),
	),
	{
		name: "4 KiB fails, free pairs at odd slots only (adversarial)",
		request: 4096,
		minAlignMask: 0xfff,
		depth: 0,
		oddPairs: true,
	},
	{ name: "over 256 KiB", request: 262145, minAlignMask: 0, depth: 0 },
];

async function openEngine(variant: string, of: SlotsCase): Promise<Runner> {
	const build = variant === "reference" ? "bench.reference" : variant === "engine" ? "bench" : "bench.bare";
	const { exports, bench, list, engine } = await openStage(build, POOL_BYTES, MIB);
	const { request, minAlignMask, depth, fragmented } = of;
	const device = engine.addDevice({ minAlignMask }).index;
	const filler = engine.addDevice({ minAlignMask: 2047 }).index;
	if (fragmented !== undefined) {
		exports.slotsFragment(filler, bench, fragmented.maxSlots, Math.floor((SLOTS * fragmented.percent) / 100), list);
	}
	if (of.oddPairs) exports.slotsOddPairs(filler);
	exports.slotsPrime(device, bench, request, depth);
	const cold = of.cold ? 1 : 0;
	const randomly = of.randomly ? 1 : 0;
	const batch =
		depth === 0
			? (ops: number) => {
					const taken = exports.slotsFail(device, request, cold, ops);
					if (taken !== 0) throw new Error(`${taken} requests that had to fail did not`);
				}
			: (ops: number) => exports.slotsRun(device, bench, request, depth, randomly, ops);
	return {
		batch,
		check() {
			batch(depth === 0 ? 10 : CHECK_OPS);
			return `slots ${engine.instance.u32(bench + BENCH_DIGEST)}`;
		},
	};
}

/** The same loops as assembly/bench/slots.ts. */
function openPlain(of: SlotsCase): Runner {
	const pool = new PlainSlots(SLOTS);
	const state = new PlainState();
	const { request, minAlignMask, depth, fragmented } = of;
	if (fragmented !== undefined) {
		const live: { slot: number; n: number }[] = [];
		let used = 0;
		for (let refused = 0; refused < 64; ) {
			const n = 1 + state.random(fragmented.maxSlots);
			const slot = pool.take(n * 2048, 2047);
			if (slot < 0) refused++;
			else {
				live.push({ slot, n });
				used += n;
			}
		}
		while (used > Math.floor((SLOTS * fragmented.percent) / 100)) {
			const at = state.random(live.length);
			const { slot, n } = live[at] as { slot: number; n: number };
			pool.give(slot);
			live[at] = live[live.length - 1] as { slot: number; n: number };
			live.pop();
			used -= n;
		}
	}
	if (of.oddPairs) {
		for (let slot = 0; slot < SLOTS; slot++) pool.take(2048, 2047);
		for (let slot = 1; slot < SLOTS; slot += 4) {
			pool.give(slot);
			pool.give(slot + 1);
		}
	}
	const ring = new Int32Array(64);
	let count = depth;
	for (let i = 0; i < depth; i++) {
		const slot = pool.take(request, minAlignMask);
		ring[i] = slot;
		state.add(slot);
	}
	const randomly = of.randomly ?? false;
	function fail(ops: number): void {
		for (let i = 0; i < ops; i++) {
			if (of.cold) pool.forget();
			if (pool.take(request, minAlignMask) >= 0) throw new Error("a request that had to fail did not");
		}
	}
	function run(ops: number): void {
		for (let i = 0; i < ops; i++) {
			const at = randomly ? state.random(depth) : count & (depth - 1);
			const live = ring[at] as number;
			if (live >= 0) pool.give(live);
			const slot = pool.take(request, minAlignMask);
			ring[at] = slot;
			state.add(slot);
			count++;
		}
	}
	const batch = depth === 0 ? fail : run;
	return {
		batch,
		check() {
			batch(depth === 0 ? 10 : CHECK_OPS);
			return `slots ${state.digest >>> 0}`;
		},
	};
}

export const slots: Suite<SlotsCase> = {
	name: "slots",
	about:
		"One slot allocation and release, no copy; 64 MiB pool, 1 area. reference: the kernel's list algorithm in WebAssembly, and slower than the kernel's native code; bare bitmap: the engine's allocator without a record of any mapping; TypeScript: the same rule in plain TypeScript, on words of a bitmap.",
	variants: ["engine", "reference", "bare bitmap", "TypeScript"],
	cases,
	async open(variant, of) {
		return variant === "TypeScript" ? openPlain(of) : openEngine(variant, of);
	},
};
