/** What suite ring answers, its targets, and both as text. */
import { median, quantile } from "./suite.ts";

export const PAYLOAD_BYTES = [16, 64, 256, 1024, 4096, 16384];

/** A measured case. `samples` are ns a message. */
export interface RingResult {
	readonly name: string;
	readonly ringBytes: number;
	readonly bytes: number;
	readonly ns: number;
	readonly samples: readonly number[];
}

/** A target of the project: what is compared, the ratio or figure found, and the most (or least) it may be. */
interface RingTarget {
	readonly what: string;
	readonly found: number;
	readonly limit: number;
	readonly met: boolean;
}

/** The targets that the results answer. Ratios of one process are medians of paired samples. */
export function targets(results: readonly RingResult[]): RingTarget[] {
	const find = (name: string, bytes: number, ringBytes = 262144) =>
		results.find((r) => r.name === name && r.bytes === bytes && r.ringBytes === ringBytes);
	const list: RingTarget[] = [];
	const most = (what: string, found: number | undefined, limit: number) => {
		if (found !== undefined) list.push({ what, found, limit, met: found >= 0 && found <= limit });
	};
	const least = (what: string, found: number | undefined, limit: number) => {
		if (found !== undefined) list.push({ what, found, limit, met: found >= limit });
	};
	const paired = (a: string, b: string, bytes: number, combine: (a: number, b: number) => number) => {
		const [x, y] = [find(a, bytes), find(b, bytes)];
		if (x === undefined || y === undefined) return undefined;
		return median(x.samples.map((value, i) => combine(value, y.samples[i] as number)));
	};
	const ratio = (a: number, b: number) => a / b;
	most("64 B written and read in WASM (ns)", find("ping-pong, read", 64)?.ns, 20);
	most("1 KiB written and read in WASM (ns)", find("ping-pong, read", 1024)?.ns, 45);
	most("4 KiB in place / 2 bare copies", paired("ping-pong, in place", "bare 2 copies", 4096, ratio), 1.3);
	most("4 KiB copy-out / 3 bare copies", paired("ping-pong, copy-out", "bare 3 copies", 4096, ratio), 1.3);
	for (const bytes of PAYLOAD_BYTES) {
		const found = paired("ping-pong, read, scattered", "ping-pong, read", bytes, ratio);
		most(`scattered / contiguous, ${bytes} B`, found, 1.3);
	}
	for (const bytes of [64, 1024, 4096]) {
		const found = paired("calls from TypeScript", "the same in WASM", bytes, (a, b) => a - b);
		most(`TypeScript above WASM, ${bytes} B (ns)`, found, 12);
	}
	for (const bytes of [64, 4096]) {
		const base = find("two workers: ringbuf.js, one by one", bytes)?.ns;
		const burst = find("two workers: engine, bursts of 16", bytes)?.ns;
		const single = find("two workers: engine, one by one", bytes)?.ns;
		if (base === undefined || burst === undefined || single === undefined) continue;
		least(`two workers, bursts of 16: times ringbuf.js, ${bytes} B`, base / burst, 8);
		least(`two workers, one by one: times ringbuf.js, ${bytes} B`, base / single, 1);
	}
	return list;
}

function size(bytes: number): string {
	return bytes >= 1048576 ? `${bytes / 1048576} MiB` : bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`;
}

function table(results: readonly RingResult[], ringBytes: number): string {
	const here = results.filter((result) => result.ringBytes === ringBytes);
	const names = [...new Set(here.map(({ name }) => name))];
	const sizes = [...new Set(here.map(({ bytes }) => bytes))];
	const lines = [
		`ring of ${size(ringBytes)}, ns a message`.padEnd(46) + sizes.map((bytes) => size(bytes).padStart(9)).join(""),
	];
	for (const name of names) {
		const cells = sizes.map((bytes) => here.find((r) => r.name === name && r.bytes === bytes)?.ns.toFixed(1) ?? "-");
		lines.push(name.padEnd(46) + cells.map((cell) => cell.padStart(9)).join(""));
	}
	return lines.join("\n");
}

/** What suite ring measured. */
export interface RingReport {
	readonly results: readonly RingResult[];
	readonly targets: readonly RingTarget[];
}

/** Half of the quartiles' distance of a case's samples, in percent of the median. */
function spreadPercent({ samples, ns }: RingResult): number {
	return ((quantile(samples, 0.75) - quantile(samples, 0.25)) / 2 / ns) * 100;
}

/** Suite ring as text: a table a ring size. */
export function formatRing({ results }: Pick<RingReport, "results">): string {
	const sizes = [...new Set(results.map(({ ringBytes }) => ringBytes))];
	const spreads = results.filter(({ samples }) => samples.length > 1).map(spreadPercent);
	const spread = [0.5, 0.9, 1].map((q) => `${Math.ceil(quantile(spreads, q))} %`);
	return [
		"ring: VMBus rings. Bare copies: memory.copy of the same bytes at the same ring offsets.",
		"ringbuf.js: called once a message, as its users call it; the engine's loops run inside WASM, its",
		"calls from TypeScript.",
		"",
		...sizes.map((ringBytes) => `${table(results, ringBytes)}\n`),
		...(spreads.length === 0
			? []
			: [
					`Spread (half the quartiles' distance): \u00b1${spread[0]} in half of the cells, \u00b1${spread[1]} in 9 of 10, \u00b1${spread[2]} at most.`,
				]),
		"",
	].join("\n");
}
