import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { InterruptQueue, type SynicInterrupt } from "../../src/synic/interrupts.ts";
import { memoryOf } from "../../src/synic/memory.ts";
import { MessagePort } from "../../src/synic/port.ts";
import { HvRegister, Msr, registerName, SintBit, sintMsr, VMBUS_SINT } from "../../src/synic/registers.ts";
import { HvStatus } from "../../src/synic/status.ts";
import { MESSAGE_PENDING, Synic } from "../../src/synic/synic.ts";

const SIMP_GPA = 0x10000;
const SIEFP_GPA = 0x11000;
const VECTOR = 0xf3;
const MESSAGE = { type: 1, payload: Uint8Array.of(1, 2, 3), sender: 7n };

async function synicOf(party: "hypervisor" | "paravisor", options: { coco?: boolean; nested?: boolean } = {}) {
	const engine = await Engine.create({ ram: "1M", swiotlb: null, coco: options.coco ?? false });
	const raised: SynicInterrupt[] = [];
	const interrupts = new InterruptQueue((interrupt) => raised.push(interrupt));
	const memory = memoryOf(engine.ram, party);
	const synic = new Synic({ party, vps: 2, memory, interrupts, nested: options.nested ?? false });
	return { engine, synic, raised, interrupts };
}

/** A SynIC whose processor 0 is set up as Linux does it, with `sint` in SINT2. */
async function enabled(sint = VECTOR, party: "hypervisor" | "paravisor" = "hypervisor", coco = false) {
	const made = await synicOf(party, { coco });
	const { synic } = made;
	synic.writeRegister(0, Msr.SIMP, BigInt(SIMP_GPA | 1));
	synic.writeRegister(0, Msr.SIEFP, BigInt(SIEFP_GPA | 1));
	synic.writeRegister(0, Msr.SCONTROL, 1n);
	synic.writeRegister(0, sintMsr(VMBUS_SINT), BigInt(sint));
	return made;
}

describe("the registers", () => {
	it("start as after a reset: all off, and every source masked", async () => {
		const { synic } = await synicOf("hypervisor");
		for (const number of [Msr.SCONTROL, Msr.SIEFP, Msr.SIMP, Msr.EOM]) expect(synic.readRegister(0, number)).toBe(0n);
		for (let sint = 0; sint < 16; sint++) expect(synic.readRegister(1, sintMsr(sint))).toBe(0x10000n);
		expect(synic.readRegister(0, Msr.SVERSION)).toBe(1n);
	});

	it("are the same by MSR and by HV_REGISTER number, and keep all 64 bits, on each processor its own", async () => {
		const { synic } = await synicOf("hypervisor");
		const pairs = [
			[HvRegister.SCONTROL, Msr.SCONTROL],
			[HvRegister.SIMP, Msr.SIMP],
			[HvRegister.SIEFP, Msr.SIEFP],
			[HvRegister.SINT0 + 2, sintMsr(2)],
			[HvRegister.SINT0 + 15, sintMsr(15)],
		] as const;
		for (const [i, [register, msr]] of pairs.entries()) {
			const value = 0xfedc_ba98_0001_0f30n + BigInt(i);
			expect(synic.writeRegister(0, register, value)).toBe(true);
			expect(synic.readRegister(0, msr)).toBe(value);
			expect(synic.readRegister(0, register)).toBe(value);
			expect(synic.readRegister(1, msr)).not.toBe(value);
		}
		expect(sintMsr(2)).toBe(0x40000092);
		expect(sintMsr(2, true)).toBe(0x40001092);
		expect([registerName(0x40000083), registerName(0xa0012), registerName(0x40001092), registerName(5)]).toEqual([
			"SIMP",
			"SIEFP",
			"SINT2",
			"0x5",
		]);
	});

	it("fault on the version, on vectors below 16 that are not masked, and where nothing is", async () => {
		const { synic } = await synicOf("hypervisor");
		expect(synic.writeRegister(0, Msr.SVERSION, 1n)).toBe(false);
		expect(synic.writeRegister(0, sintMsr(2), 15n)).toBe(false);
		expect(synic.writeRegister(0, sintMsr(2), 15n | BigInt(SintBit.Masked))).toBe(true);
		expect(synic.writeRegister(0, sintMsr(2), 16n)).toBe(true);
		for (const number of [0x4000007f, 0x40000085, 0x400000a0, 0x40001083, 0xa0015, 0, -1])
			expect([synic.readRegister(0, number), synic.writeRegister(0, number, 0n)]).toEqual([null, false]);
		expect([synic.readRegister(2, Msr.SIMP), synic.writeRegister(-1, Msr.SIMP, 0n)]).toEqual([null, false]);
	});

	it("of a nested hypervisor stand 0x1000 above, and nowhere else", async () => {
		const { synic } = await synicOf("hypervisor", { nested: true });
		expect(synic.writeRegister(0, 0x40001083, 0x5001n)).toBe(true);
		expect(synic.readRegister(0, 0x40001083)).toBe(0x5001n);
		expect(synic.readRegister(0, Msr.SIMP)).toBe(null);
		expect(synic.readRegister(0, HvRegister.SIMP)).toBe(null);
		expect(synic.readRegister(0, sintMsr(3, true))).toBe(0x10000n);
	});
});

describe("a message", () => {
	it("has the true layout, in the slot of its SINT, and raises its vector", async () => {
		const { engine, synic, raised } = await enabled(VECTOR | SintBit.AutoEoi);
		engine.ram.fill(SIMP_GPA + 512, 256, 0xaa);
		engine.ram.write(SIMP_GPA + 512, new Uint8Array(4));
		expect(synic.deliver(0, VMBUS_SINT, MESSAGE)).toBe(HvStatus.SUCCESS);
		const slot = engine.ram.read(SIMP_GPA + 512, 256);
		const head = "01000000" + "03" + "00" + "0000" + "0700000000000000" + "010203";
		expect(Buffer.from(slot).toString("hex")).toBe(head.padEnd(512, "0"));
		expect(raised).toEqual([{ vp: 0, vector: VECTOR, sint: 2, source: "hypervisor", proxied: false, autoEoi: true }]);
		expect(engine.ram.read(SIMP_GPA, 512)).toEqual(new Uint8Array(512));
	});

	it("finds its slot in use, leaves it alone and sets the pending flag", async () => {
		const { engine, synic, raised } = await enabled();
		synic.deliver(0, VMBUS_SINT, MESSAGE);
		const before = engine.ram.read(SIMP_GPA + 512, 256);
		expect(synic.deliver(0, VMBUS_SINT, { ...MESSAGE, type: 9 })).toBe(HvStatus.OBJECT_IN_USE);
		before[5] = MESSAGE_PENDING;
		expect(engine.ram.read(SIMP_GPA + 512, 256)).toEqual(before);
		expect(raised).toHaveLength(1);
	});

	it.each([
		["masked", VECTOR | SintBit.Masked],
		["proxied", VECTOR | SintBit.Proxy],
	])("is refused by a SINT that is %s", async (_, sint) => {
		const { synic, raised } = await enabled(sint);
		expect(synic.deliver(0, VMBUS_SINT, MESSAGE)).toBe(HvStatus.INVALID_SYNIC_STATE);
		expect(raised).toEqual([]);
	});

	it("comes without an interrupt to a SINT that is polled", async () => {
		const { engine, synic, raised } = await enabled(VECTOR | SintBit.Polling);
		expect(synic.deliver(0, VMBUS_SINT, MESSAGE)).toBe(HvStatus.SUCCESS);
		expect(engine.ram.read(SIMP_GPA + 512, 1)[0]).toBe(1);
		expect(raised).toEqual([]);
	});

	it("is refused without SynIC, page, processor or SINT, and when it is none", async () => {
		const { synic } = await enabled();
		expect(synic.deliver(2, 2, MESSAGE)).toBe(HvStatus.INVALID_VP_INDEX);
		expect(synic.deliver(0, 16, MESSAGE)).toBe(HvStatus.INVALID_PARAMETER);
		expect(synic.deliver(0, 2, { ...MESSAGE, type: 0 })).toBe(HvStatus.INVALID_PARAMETER);
		expect(synic.deliver(0, 2, { ...MESSAGE, payload: new Uint8Array(241) })).toBe(HvStatus.INVALID_PARAMETER);
		expect(synic.deliver(1, 2, MESSAGE)).toBe(HvStatus.INVALID_SYNIC_STATE);
		for (const [register, off, on] of [
			[Msr.SCONTROL, 0n, 1n],
			[Msr.SIMP, BigInt(SIMP_GPA), BigInt(SIMP_GPA | 1)],
			[Msr.SIMP, 0xfff_ffff_f001n, BigInt(SIMP_GPA | 1)],
			[Msr.SIMP, 0xffff_ffff_ffff_f001n, BigInt(SIMP_GPA | 1)],
		] as const) {
			synic.writeRegister(0, register, off);
			expect(synic.deliver(0, 2, MESSAGE)).toBe(HvStatus.INVALID_SYNIC_STATE);
			synic.writeRegister(0, register, on);
		}
		expect(synic.deliver(0, 2, MESSAGE)).toBe(HvStatus.SUCCESS);
	});
});

describe("an event flag", () => {
	it("is the bit of its number in the SINT's part of the page, and interrupts once until it is cleared", async () => {
		const { engine, synic, raised } = await enabled();
		expect(synic.signal(0, VMBUS_SINT, 1)).toBe(HvStatus.SUCCESS);
		expect(engine.ram.read(SIEFP_GPA + 512, 1)[0]).toBe(2);
		synic.signal(0, VMBUS_SINT, 1);
		expect(raised).toHaveLength(1);
		synic.signal(0, VMBUS_SINT, 2047);
		expect(engine.ram.read(SIEFP_GPA + 767, 1)[0]).toBe(0x80);
		expect(raised).toHaveLength(2);
		engine.ram.write(SIEFP_GPA + 512, Uint8Array.of(0));
		synic.signal(0, VMBUS_SINT, 1);
		expect(raised).toHaveLength(3);
	});

	it("beyond the last, or of no SINT, is ignored", async () => {
		const { engine, synic, raised } = await enabled();
		expect(synic.signal(0, 2, 2048)).toBe(HvStatus.INVALID_PARAMETER);
		expect(synic.signal(0, 16, 0)).toBe(HvStatus.INVALID_PARAMETER);
		expect(synic.signal(0, 2, -1)).toBe(HvStatus.INVALID_PARAMETER);
		expect(synic.signal(5, 2, 1)).toBe(HvStatus.INVALID_VP_INDEX);
		expect(engine.ram.read(SIEFP_GPA, 4096)).toEqual(new Uint8Array(4096));
		expect(raised).toEqual([]);
	});

	it("is set but does not interrupt while the SINT is masked or polled, or the SynIC off", async () => {
		for (const bits of [SintBit.Masked, SintBit.Polling, 0]) {
			const { engine, synic, raised } = await enabled(VECTOR | bits);
			if (bits === 0) synic.writeRegister(0, Msr.SCONTROL, 0n);
			expect(synic.signal(0, VMBUS_SINT, 9)).toBe(HvStatus.SUCCESS);
			expect(engine.ram.read(SIEFP_GPA + 513, 1)[0]).toBe(2);
			expect(raised).toEqual([]);
		}
	});
});

describe("whose pages a SynIC touches", () => {
	it.each([
		["hypervisor", PageState.Private, false],
		["hypervisor", PageState.Shared, true],
		["hypervisor", PageState.Hidden, false],
		["hypervisor", PageState.Leaked, false],
		["paravisor", PageState.Private, true],
		["paravisor", PageState.Shared, true],
		["paravisor", PageState.Hidden, true],
		["paravisor", PageState.InTransition, false],
		["paravisor", PageState.Leaked, false],
	] as const)("the %s's, page state %d: %s", async (party, state, may) => {
		const { engine, synic, raised } = await enabled(VECTOR, party, true);
		engine.ram.convert(SIMP_GPA, 8192, state);
		const status = may ? HvStatus.SUCCESS : HvStatus.INVALID_SYNIC_STATE;
		expect(synic.deliver(0, 2, MESSAGE)).toBe(status);
		expect(synic.signal(0, 2, 3)).toBe(status);
		expect(raised).toHaveLength(may ? 2 : 0);
		const isTouched = engine.ram.view(SIMP_GPA, 8192).some((byte) => byte !== 0);
		expect(isTouched).toBe(may);
	});
});

describe("a sender's queue", () => {
	async function port(depth?: number) {
		const made = await enabled();
		const { synic, interrupts } = made;
		const options = { route: () => synic, synics: [synic], interrupts, vp: 0, sint: VMBUS_SINT };
		return { ...made, port: new MessagePort(depth === undefined ? options : { ...options, depth }) };
	}
	const take = (engine: Engine) => {
		const slot = engine.ram.read(SIMP_GPA + 512, 256);
		engine.ram.write(SIMP_GPA + 512, new Uint8Array(4));
		return { type: slot[0], first: slot[16], pending: slot[5] };
	};

	it("holds 64 messages behind the slot, then has no buffers", async () => {
		const { engine, synic, port: sender, raised } = await port();
		for (let i = 0; i < 65; i++) expect(sender.post(1, Uint8Array.of(i))).toBe(HvStatus.SUCCESS);
		expect(sender.waiting).toBe(64);
		expect(sender.post(1, Uint8Array.of(65))).toBe(HvStatus.INSUFFICIENT_BUFFERS);
		for (let i = 0; i < 65; i++) {
			expect(take(engine)).toEqual({ type: 1, first: i, pending: i < 64 ? MESSAGE_PENDING : 0 });
			synic.writeRegister(0, Msr.EOM, 0n);
		}
		expect(sender.waiting).toBe(0);
		expect(raised).toHaveLength(65);
	});

	it("keeps its own copy of a message, and never lets a later one overtake", async () => {
		const { engine, port: sender } = await port();
		const bytes = Uint8Array.of(1);
		for (const value of [1, 2, 3]) {
			bytes[0] = value;
			sender.post(1, bytes);
		}
		bytes[0] = 4;
		// the guest forgot EOM: the next post finds the slot free, and sends what waits first
		expect(take(engine).first).toBe(1);
		sender.post(1, bytes);
		expect(take(engine).first).toBe(2);
		expect(sender.waiting).toBe(2);
	});

	it("goes on when the guest unmasks, enables or moves what held it up, and refuses at once while nothing waits", async () => {
		const { engine, synic, port: sender } = await port();
		sender.post(1, Uint8Array.of(1));
		sender.post(1, Uint8Array.of(2));
		synic.writeRegister(0, sintMsr(2), BigInt(VECTOR | SintBit.Masked));
		take(engine);
		synic.writeRegister(0, Msr.EOM, 0n);
		expect(sender.waiting).toBe(1);
		synic.writeRegister(0, sintMsr(2), BigInt(VECTOR));
		expect(sender.waiting).toBe(0);
		expect(take(engine).first).toBe(2);
		synic.writeRegister(0, Msr.SCONTROL, 0n);
		expect(sender.post(1, Uint8Array.of(3))).toBe(HvStatus.INVALID_SYNIC_STATE);
		expect(sender.waiting).toBe(0);
	});

	it("is empty and still once closed", async () => {
		const { engine, synic, port: sender, raised } = await port();
		sender.post(1, Uint8Array.of(1));
		sender.post(1, Uint8Array.of(2));
		sender.close();
		take(engine);
		synic.writeRegister(0, Msr.EOM, 0n);
		expect(take(engine).type).toBe(0);
		expect(raised).toHaveLength(1);
	});
});

describe("interrupts", () => {
	it("reach the callback after the operation, in order, and never from within it", () => {
		const log: string[] = [];
		const queue: InterruptQueue = new InterruptQueue(({ vp }) => {
			log.push(`in ${vp}`);
			if (vp < 3) queue.raise({ vp: vp + 2, vector: 1, sint: 2, source: "hypervisor", proxied: false, autoEoi: true });
			log.push(`out ${vp}`);
		});
		const raise = (vp: number) =>
			queue.raise({ vp, vector: 1, sint: 2, source: "hypervisor", proxied: false, autoEoi: true });
		queue.during(() => {
			raise(1);
			queue.during(() => raise(2));
			log.push("done");
		});
		expect(log).toEqual(["done", "in 1", "out 1", "in 2", "out 2", "in 3", "out 3", "in 4", "out 4"]);
	});

	it("go on after a callback that throws", () => {
		const seen: number[] = [];
		const queue = new InterruptQueue(({ vp }) => {
			seen.push(vp);
			if (vp === 0) throw new Error("handler");
		});
		const raise = (vp: number) =>
			queue.raise({ vp, vector: 1, sint: 2, source: "paravisor", proxied: false, autoEoi: false });
		expect(() => raise(0)).toThrow("handler");
		raise(1);
		expect(seen).toEqual([0, 1]);
	});
});
