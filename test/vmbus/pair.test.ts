/** Random legal histories of both sides against each other, every byte over the SynICs. */
import { describe, expect, it } from "vitest";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { KINDS, Pair } from "./pair-machine.ts";

printSeed("vmbus pair");
const HISTORIES = bySuite({ quick: 2, slow: 12 });
const STEPS = 80;

describe("both sides over the SynICs", () => {
	it.each(Object.keys(KINDS))("agree after any legal history, and leave nothing: %s", async (kind) => {
		let echoed = 0;
		for (let run = 0; run < HISTORIES; run++) {
			const random = new Random(SEED + run);
			const pair = await Pair.create(kind, random);
			const { system } = pair;
			for (let i = 0; i < 3; i++) pair.offer();
			system.startRelay();
			pair.settle();
			// the second connection meets what the first has left
			for (let connection = 0; connection < 2; connection++) {
				pair.do(system.guest.connect());
				pair.settle();
				pair.agree();
				for (let i = 0; i < STEPS; i++) {
					pair.act();
					pair.check();
				}
				pair.settle();
				pair.check();
				pair.agree();
				pair.unload();
			}
			system.guest.dispose();
			expect(system.pages.used).toBe(0);
			echoed += pair.echoed;
		}
		// the histories are worth something only while data moves
		expect(echoed).toBeGreaterThan(HISTORIES * 4);
	});
});
