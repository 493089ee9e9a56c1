/** Suite copy: copy kernels by size, cache-hot and walking through memory, at several page offsets. */
import { KERNEL_ENGINE, KERNEL_MEMORY_COPY, KERNEL_V128 } from "../assembly/bench/layout.ts";
import { SMALL_COPY_BYTES } from "../assembly/layout/context.ts";
import { formatBytes } from "../src/bytes.ts";
import { MIB, openStage } from "./stage.ts";
import { type Case, median, type Suite } from "./suite.ts";

const SIZES = [16, 64, 128, 256, 384, 512, 1024, 2048, 4096, 16384, 65536, 262144, MIB];
/** Page offsets of target and source: aligned; the target a line ahead, where 4 KiB aliasing costs most; odd. */
const OFFSETS = [
	{ label: "aligned", to: 0, from: 0 },
	{ label: "to +64", to: 64, from: 0 },
	{ label: "to +13, from +7", to: 13, from: 7 },
] as const;
/** The walk covers this much on each side: more than the caches of a core. */
const WINDOW = 64 * MIB;

interface CopyCase extends Case {
	readonly n: number;
	readonly to: number;
	readonly from: number;
	readonly walking: boolean;
}

const cases: CopyCase[] = [false, true].flatMap((walking) =>
	SIZES.flatMap((n) =>
		OFFSETS.map(({ label, to, from }) => ({
			name: `${formatBytes(n)} ${walking ? "walking" : "hot"}, ${label}`,
			n,
			bytes: n,
			to,
			from,
			walking,
		})),
	),
);

const KERNELS: Readonly<Record<string, number>> = {
	engine: KERNEL_ENGINE,
	"memory.copy": KERNEL_MEMORY_COPY,
	"v128 loop": KERNEL_V128,
};

/** The largest size up to which the v128 loop is at least as fast as memory.copy, summed over the offsets. */
function crossover(walking: boolean, ns: (caseName: string, variant: string) => number | undefined): number {
	let best = 0;
	for (const n of SIZES) {
		const ratios = cases
			.filter((of) => of.n === n && of.walking === walking)
			.map(({ name }) => (ns(name, "v128 loop") ?? Number.NaN) / (ns(name, "memory.copy") ?? Number.NaN));
		if (!(median(ratios) <= 1)) break;
		best = n;
	}
	return best;
}

export const copy: Suite<CopyCase> = {
	name: "copy",
	about:
		"One copy. hot: the same bytes each time; walking: through 2 x 64 MiB, as bounces do. copyWithin and set are called from TypeScript.",
	variants: ["engine", "memory.copy", "v128 loop", "copyWithin", "set"],
	cases,
	async open(variant, { n, to, from, walking }) {
		const stage = await openStage("bench", MIB, 2 * WINDOW + 4 * MIB);
		const { exports, ramPtr } = stage;
		const source = ramPtr + from;
		const target = ramPtr + WINDOW + 2 * MIB + to;
		// a walk goes from slot to slot
		const step = walking ? Math.ceil(n / 2048) * 2048 : 0;
		const bytes = new Uint8Array(stage.engine.memory.buffer);
		const kernel = KERNELS[variant];
		let at = 0;
		const batch =
			kernel !== undefined
				? (ops: number) => {
						at = exports.copyRun(kernel, target, source, n, step, WINDOW, at, ops);
					}
				: variant === "copyWithin"
					? (ops: number) => {
							for (let i = 0; i < ops; i++) {
								bytes.copyWithin(target + at, source + at, source + at + n);
								at = (at + step) & (WINDOW - 1);
							}
						}
					: (ops: number) => {
							for (let i = 0; i < ops; i++) {
								bytes.set(bytes.subarray(source + at, source + at + n), target + at);
								at = (at + step) & (WINDOW - 1);
							}
						};
		return {
			batch,
			check() {
				batch(3);
				return `bytes ${exports.hashBytes(ramPtr + WINDOW + 2 * MIB, 4 * MIB) >>> 0}`;
			},
		};
	},
	summary(ns) {
		return `v128 loop no slower than memory.copy up to: ${crossover(false, ns)} B hot, ${crossover(true, ns)} B walking. The engine changes over above ${SMALL_COPY_BYTES} B.`;
	},
};
