/** Times something that may be short, in samples that are long enough for the clock and for the machine's own hiccups. */

/** A sample lasts at least this long (ms). */
const SAMPLE_MS = 20;
/** Runs in a sample, at most. */
const MOST_RUNS = 2 ** 20;

export class Sampler {
	readonly #run: () => void;
	/** Runs that a sample takes; 0: not known yet. */
	#runs = 0;

	constructor(run: () => void) {
		this.#run = run;
	}

	/** Finds out how many runs a sample takes, and warms them by it. */
	warm(): void {
		for (this.#runs = 1; this.#runs < MOST_RUNS; ) {
			const ms = this.#elapsedMs();
			if (ms >= SAMPLE_MS) return;
			// no more than eightfold by a time that may be mostly the clock's step
			this.#runs = Math.min(MOST_RUNS, Math.ceil(this.#runs * Math.min(8, Math.max(1.05, (SAMPLE_MS * 1.05) / ms))));
		}
	}

	/** @returns ns of one run */
	sample(): number {
		if (this.#runs === 0) this.warm();
		return (this.#elapsedMs() * 1e6) / this.#runs;
	}

	#elapsedMs(): number {
		const start = performance.now();
		for (let i = 0; i < this.#runs; i++) this.#run();
		return performance.now() - start;
	}
}
