import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PlainSlots } from "../../bench/plain.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("plain");

const SLOTS = 1024;

/** The rule slot by slot: the lowest start of a run within 128 slots, from the index on, then from the beginning. */
class SlotBySlot {
	readonly #used = new Uint8Array(SLOTS);
	#index = 0;
	#count = 0;

	take(bytes: number, minAlignMask: number): number {
		const n = Math.ceil(bytes / 2048);
		if (n > SLOTS - this.#count) return -7;
		const mask = minAlignMask === 0 && bytes >= 4096 ? 4095 : minAlignMask;
		const period = Math.floor(mask / 2048) + 1;
		const fits = (slot: number) =>
			Math.floor(slot / 128) === Math.floor((slot + n - 1) / 128) &&
			this.#used.subarray(slot, slot + n).every((used) => used === 0);
		const starts: number[] = [];
		for (let slot = Math.ceil(this.#index / period) * period; slot < SLOTS; slot += period) starts.push(slot);
		for (let slot = 0; slot < this.#index; slot += period) starts.push(slot);
		const slot = starts.find(fits) ?? -7;
		if (slot < 0) return slot;
		this.#used.fill(1, slot, slot + n);
		this.#count += n;
		this.#index = slot + n >= SLOTS ? 0 : slot + n;
		return slot;
	}

	give(slot: number, n: number): void {
		this.#used.fill(0, slot, slot + n);
		this.#count -= n;
	}
}

describe("the allocator in plain TypeScript that benchmarks compare with", () => {
	it("finds the slots that the rule says, whatever is taken and given back", () => {
		const step = fc.record({ bytes: fc.integer({ min: 1, max: 262144 }), small: fc.boolean(), give: fc.nat(99) });
		const masks = fc.constantFrom(0, 0x7ff, 0xfff);
		fc.assert(
			fc.property(
				masks,
				fc.integer({ min: 30, max: 60 }),
				fc.array(step, { minLength: 300, size: "max", maxLength: 600 }),
				(mask, gives, steps) => {
					const [plain, model] = [new PlainSlots(SLOTS), new SlotBySlot()];
					const live: { slot: number; n: number }[] = [];
					for (const { bytes, small, give } of steps) {
						if (give < gives && live.length > 0) {
							const { slot, n } = live.splice((bytes * 7) % live.length, 1)[0] as { slot: number; n: number };
							plain.give(slot);
							model.give(slot, n);
							continue;
						}
						const size = small ? 1 + (bytes % 40_000) : bytes;
						const slot = plain.take(size, mask);
						expect(slot).toBe(model.take(size, mask));
						if (slot >= 0) live.push({ slot, n: Math.ceil(size / 2048) });
					}
				},
			),
			{ seed: SEED, numRuns: 40 },
		);
	});
});
