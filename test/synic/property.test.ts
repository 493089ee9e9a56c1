import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Msr, SintBit, sintMsr, VMBUS_SINT } from "../../src/synic/registers.ts";
import { HvStatus } from "../../src/synic/status.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { PLATFORMS, type TestGuest, testGuest } from "./synic-machine.ts";

printSeed("synic properties");
const run = { seed: SEED, numRuns: bySuite({ quick: 30, slow: 150 }) };
const VPS = 2;
const SINT2 = sintMsr(VMBUS_SINT);

type Step = {
	readonly do: "post" | "signal" | "take" | "mask" | "poll" | "unmask" | "eom" | "hold" | "release";
	readonly vp: number;
	readonly n: number;
};
const steps = fc.array(
	fc.record({
		do: fc.constantFrom<Step["do"]>(
			...(["post", "post", "post", "post", "signal", "signal", "take", "take"] as const),
			...(["mask", "poll", "unmask", "unmask", "eom", "hold", "release"] as const),
		),
		vp: fc.nat(VPS - 1),
		n: fc.integer({ min: 1, max: 2047 }),
	}),
	{ minLength: 1, maxLength: 150 },
);

const guests = fc.constantFrom(
	["bare", false, "hypervisor"] as const,
	["SNP with paravisor", false, "paravisor"] as const,
	["SNP with paravisor", true, "paravisor"] as const,
	["TDX without paravisor", false, "hypervisor"] as const,
);

/** What must come of a history: the messages accepted, in order, and the flags set and not yet taken. */
class Model {
	readonly #test: TestGuest;
	readonly #ports;
	readonly #sender;
	/** The SynIC that the guest's messages come through. */
	readonly #synic;
	readonly sent: number[][] = Array.from({ length: VPS }, () => []);
	readonly flags: Set<number>[] = Array.from({ length: VPS }, () => new Set());
	readonly #bits = Array<number>(VPS).fill(0xf3 | SintBit.AutoEoi);
	#count = 0;

	constructor(test: TestGuest, sender: "hypervisor" | "paravisor", confidential: boolean) {
		this.#test = test;
		this.#sender = sender;
		this.#synic = test.machine.synic(confidential ? "paravisor" : "hypervisor");
		this.#ports = Array.from({ length: VPS }, (_, vp) => test.machine.guestPort(sender, vp, VMBUS_SINT));
	}

	step({ do: what, vp, n }: Step): void {
		const { machine, interrupts } = this.#test;
		const before = interrupts.length;
		const quiet = (this.#bits[vp] as number) & (SintBit.Masked | SintBit.Polling);
		if (what === "post") {
			const waiting = (this.#ports[vp] as { waiting: number }).waiting;
			const payload = new Uint8Array(8);
			new DataView(payload.buffer).setUint32(0, ++this.#count, true);
			const status = this.#ports[vp]?.post(1, payload);
			if (status === HvStatus.SUCCESS) (this.sent[vp] as number[]).push(this.#count);
			else if (status === HvStatus.INSUFFICIENT_BUFFERS) expect(waiting).toBe(64);
			else expect([status, quiet & SintBit.Masked]).toEqual([HvStatus.INVALID_SYNIC_STATE, SintBit.Masked]);
		} else if (what === "signal") {
			expect(machine.signalGuest(this.#sender, vp, VMBUS_SINT, n)).toBe(HvStatus.SUCCESS);
			const isNew = !this.flags[vp]?.has(n);
			this.flags[vp]?.add(n);
			// without a guest that takes the flag at once, the interrupt can be counted
			if (this.#test.held) expect(interrupts.length - before).toBe(isNew && quiet === 0 ? 1 : 0);
		} else if (what === "take") this.#test.onInterrupt(vp);
		else if (what === "eom") this.#synic.writeRegister(vp, Msr.EOM, 0n);
		else if (what === "hold" || what === "release") this.#test.held = what === "hold";
		else {
			const bit = what === "mask" ? SintBit.Masked : what === "poll" ? SintBit.Polling : 0;
			this.#bits[vp] = 0xf3 | SintBit.AutoEoi | bit;
			this.#synic.writeRegister(vp, SINT2, BigInt(this.#bits[vp] as number));
		}
		for (const { vp: at, flag } of this.#test.events.splice(0)) {
			expect(this.flags[at]?.delete(flag), `flag ${flag} was set`).toBe(true);
		}
	}

	/** The guest unmasks and looks until nothing comes any more. */
	finish(): void {
		this.#test.held = true;
		for (let vp = 0; vp < VPS; vp++) {
			this.step({ do: "unmask", vp, n: 1 });
			for (let i = 0; i < 200; i++) {
				this.#synic.writeRegister(vp, Msr.EOM, 0n);
				this.step({ do: "take", vp, n: 1 });
			}
		}
	}

	received(vp: number): number[] {
		return this.#test.messages
			.filter((message) => message.vp === vp)
			.map(({ payload }) => new DataView(payload.slice().buffer).getUint32(0, true));
	}
}

describe("properties of SynICs", () => {
	it("lose, double and reorder no message and no event, whatever the guest masks, polls, holds and forgets", async () => {
		await fc.assert(
			fc.asyncProperty(guests, steps, async ([name, confidential, sender], list) => {
				const test = await testGuest(PLATFORMS[name] as (typeof PLATFORMS)[string], { confidential, vps: VPS });
				const model = new Model(test, sender, confidential);
				for (const step of list) model.step(step);
				model.finish();
				for (let vp = 0; vp < VPS; vp++) {
					expect(model.received(vp)).toEqual(model.sent[vp]);
					expect([...(model.flags[vp] as Set<number>)]).toEqual([]);
				}
			}),
			run,
		);
	});

	it("raise one interrupt for each message that reaches a slot, and none while masked or polled", async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }), fc.boolean(), async (takes, polled) => {
				const test = await testGuest(PLATFORMS.bare as (typeof PLATFORMS)[string], { vps: 1 });
				test.held = true;
				const { hypervisor } = test.machine;
				if (polled) hypervisor.writeRegister(0, SINT2, BigInt(0xf3 | SintBit.Polling));
				const port = test.machine.guestPort("hypervisor", 0, VMBUS_SINT);
				let delivered = 0;
				let posted = 0;
				for (const take of takes) {
					if (take) test.onInterrupt(0);
					else {
						port.post(1, Uint8Array.of(1));
						posted++;
					}
					delivered = posted - port.waiting;
					expect(test.interrupts.length).toBe(polled ? 0 : delivered);
				}
			}),
			run,
		);
	});

	it("survive a guest that writes anything into its pages and registers", async () => {
		const enabledPage = fc.integer({ min: 0xf8, max: 0x10f }).map((page) => BigInt(page * 4096 + 1));
		const word = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), enabledPage);
		const hostile = fc.array(
			fc.oneof(
				fc.record({
					kind: fc.constant("register" as const),
					at: fc.oneof(fc.integer({ min: 0x40000080, max: 0x4000009f }), fc.constantFrom(Msr.SIMP, Msr.SIEFP)),
					value: word,
				}),
				fc.record({ kind: fc.constant("page" as const), at: fc.nat(8191), value: word }),
				fc.record({ kind: fc.constant("post" as const), at: fc.nat(240), value: word }),
				fc.record({ kind: fc.constant("signal" as const), at: fc.integer({ min: -1, max: 2100 }), value: word }),
			),
			{ maxLength: 60 },
		);
		await fc.assert(
			fc.asyncProperty(hostile, async (list) => {
				const test = await testGuest(PLATFORMS["SNP without paravisor"] as (typeof PLATFORMS)[string], { vps: 1 });
				const { machine, engine } = test;
				const port = machine.guestPort("hypervisor", 0, VMBUS_SINT);
				const shared = new Set([0x100000, 0x101000, 0x102000]);
				for (const { kind, at, value } of list) {
					if (kind === "register") machine.hypervisor.writeRegister(0, at, value);
					else if (kind === "page") engine.ram.write(0x101000 + at, Uint8Array.of(Number(value & 0xffn)));
					else if (kind === "post") port.post(Number(value & 0xffffffffn), new Uint8Array(at));
					else machine.signalGuest("hypervisor", 0, value < 2n ** 50n ? VMBUS_SINT : Number(value & 31n), at);
					expect(port.waiting).toBeLessThanOrEqual(64);
				}
				// nothing but the shared pages was written
				for (let gpa = 0; gpa < 2 ** 22; gpa += 4096) {
					if (shared.has(gpa)) continue;
					expect(engine.ram.view(gpa, 4096).some((byte) => byte !== 0 && byte !== 0xaa)).toBe(false);
				}
			}),
			{ ...run, numRuns: bySuite({ quick: 10, slow: 40 }) },
		);
	});
});
