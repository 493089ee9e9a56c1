/** This build against another one: the same rows of both, in turn, in processes that are new in every round. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build, SETS } from "../build.ts";
import { environment } from "../src/node/environment.ts";
import { loadModule } from "../src/wasm.ts";
import type { AgainstReport, AgainstSuite } from "./report.ts";
import type { Samples } from "./ring-cases.ts";
import { PAYLOAD_BYTES } from "./ring-report.ts";
import { type AgainstRow, compareRounds, median, type Suite } from "./suite.ts";
import { suites } from "./suites.ts";
import { Variant } from "./variant.ts";

/** The rounds of a row: ns of the other build and of this one, measured next to each other. */
class Rounds {
	readonly #before = new Map<string, number[]>();
	readonly #now = new Map<string, number[]>();

	add(row: string, isNow: boolean, ns: number): void {
		const to = isNow ? this.#now : this.#before;
		to.set(row, [...(to.get(row) ?? []), ns]);
	}

	/** Rows that both builds have. */
	rows(): AgainstRow[] {
		return Array.from(this.#now).flatMap(([name, now]) => {
			const before = this.#before.get(name);
			return before === undefined || before.length !== now.length ? [] : [compareRounds(name, before, now)];
		});
	}
}

/** Another build, in the folder of its clone. */
class Other {
	readonly #bench: string;

	/** @throws RangeError when nothing is built there */
	constructor(folder: string) {
		this.#bench = resolve(folder, "build/bench");
		const child = resolve(this.#bench, "child.js");
		if (!existsSync(child))
			throw new RangeError(`--against: expected the folder of a built clone: there is no ${child}`);
	}

	url(file: string): URL {
		return pathToFileURL(resolve(this.#bench, file));
	}

	async load<T>(file: string): Promise<T> {
		return (await import(this.url(file).href)) as T;
	}
}

/** Runs `work` for both builds, the other one first in every second round. */
async function inTurn(round: number, work: (isNow: boolean) => Promise<void>): Promise<void> {
	for (const isNow of round % 2 === 0 ? [false, true] : [true, false]) await work(isNow);
}

async function compareSuite(
	suite: Suite,
	other: Other,
	rounds: number,
	ms: number,
	progress: (what: string) => void,
): Promise<AgainstSuite> {
	const theirs = (await other.load<{ suites: readonly Suite[] }>("suites.js")).suites.find(
		({ name }) => name === suite.name,
	);
	const found = new Rounds();
	for (const name of suite.engine ?? suite.variants.slice(0, 1)) {
		if (theirs?.variants.includes(name) !== true) continue;
		for (let round = 0; round < rounds; round++) {
			const before = new Variant(theirs, name, other.url("child.js"));
			const now = new Variant(suite, name);
			try {
				for (const [index, of] of suite.cases.entries()) {
					const there = theirs.cases.findIndex((one) => one.name === of.name);
					if (there < 0 || of.unit === "bytes") continue;
					progress(`${suite.name}: ${name}: round ${round + 1}/${rounds}: ${of.name}`);
					await inTurn(round, async (isNow) => {
						const { value } = await (isNow ? now : before).ask({ what: "time", index: isNow ? index : there, ms });
						const row = suite.engine === undefined ? of.name : `${of.name}: ${name}`;
						if (value !== undefined) found.add(row, isNow, value);
					});
				}
			} finally {
				before.end();
				now.end();
			}
		}
	}
	return { suite: suite.name, rows: found.rows() };
}

/** Suite ring: the engine's variants, and the bare copies that both builds make alike: what they differ by is noise. */
async function compareRing(
	other: Other,
	rounds: number,
	quick: boolean,
	progress: (what: string) => void,
): Promise<AgainstSuite> {
	// ringbuf.js, which they import, is not part of the package
	const { inProcess, RING_BYTES, THREAD_VARIANTS } = await import("./ring.ts");
	const { twoWorkers } = await import("./ring-threads.ts");
	const { twoWorkers: theirWorkers } = await other.load<typeof import("./ring-threads.ts")>("ring-threads.js");
	const found = new Rounds();
	const add = (what: string, isNow: boolean, samples: Samples) => {
		for (const [name, ns] of Object.entries(samples)) found.add(`${name}, ${what}`, isNow, median(ns));
	};
	for (const ringBytes of quick ? [262144] : RING_BYTES) {
		for (const bytes of quick ? [64, 1024, 4096] : PAYLOAD_BYTES) {
			for (let round = 0; round < rounds; round++) {
				progress(`ring: ${ringBytes / 1024} KiB, ${bytes} B: round ${round + 1}/${rounds}`);
				await inTurn(round, async (isNow) => {
					for (const variant of ["wasm", "calls"])
						add(
							`${bytes} B, ring of ${ringBytes / 1024} KiB`,
							isNow,
							inProcess(variant, ringBytes, bytes, isNow ? undefined : other.url("ring.js")),
						);
				});
			}
		}
	}
	for (const bytes of [64, 4096]) {
		for (const [name, variant, burst] of THREAD_VARIANTS) {
			if (variant === "ringbuf") continue;
			for (let round = 0; round < rounds; round++) {
				progress(`ring: two workers, ${bytes} B: round ${round + 1}/${rounds}`);
				await inTurn(round, async (isNow) => {
					const count = 16 * (bytes === 64 ? 1000 : 100);
					const ns = await (isNow ? twoWorkers : theirWorkers)(variant, 262144, bytes, count, burst, quick ? 5 : 60);
					found.add(`two workers, ${name}, ${bytes} B`, isNow, median(ns));
				});
			}
		}
	}
	return { suite: "ring", rows: found.rows() };
}

/**
 * Compares suites (slots, map and ring when none are named) with those of a built clone in `folder`.
 * @throws RangeError for an unknown suite, or a folder without a build
 */
export async function runAgainst(
	folder: string,
	names: readonly string[],
	{ rounds, msPerRound, progress }: { rounds: number; msPerRound: number; progress: (what: string) => void },
): Promise<AgainstReport> {
	const other = new Other(folder);
	await build(SETS.benchmarks);
	const wanted = names.length === 0 ? ["slots", "map", "ring"] : names;
	const { loadModule: loadTheirs } = await other.load<{ loadModule: typeof loadModule }>("../src/wasm.js");
	const [before, now] = await Promise.all([loadTheirs("bench"), loadModule("bench")]);
	const measuredOn = environment();
	const compared: AgainstSuite[] = [];
	for (const suite of suites) {
		if (wanted.includes(suite.name)) compared.push(await compareSuite(suite, other, rounds, msPerRound, progress));
	}
	if (wanted.includes("ring")) compared.push(await compareRing(other, rounds, msPerRound < 10, progress));
	return {
		schema: "coco-dma/bench-against/1",
		command: "bench",
		environment: measuredOn,
		against: { folder, before: before.hash, now: now.hash },
		options: { suites: wanted, rounds, msPerRound },
		suites: compared,
	};
}
