import { describe, expect, it } from "vitest";
import { RangeState } from "../../src/memory/ram.ts";
import { Msr, SintBit, sintMsr, VMBUS_SINT } from "../../src/synic/registers.ts";
import { HvStatus } from "../../src/synic/status.ts";
import { PLATFORMS, type TestGuest, testGuest, VTOM } from "./synic-machine.ts";

const SINT2 = sintMsr(VMBUS_SINT);
const NAMES = new Map<number, string>([
	[Msr.SIMP, "SIMP"],
	[Msr.SIEFP, "SIEFP"],
	[SINT2, "SINT2"],
	[Msr.SCONTROL, "SCONTROL"],
	[Msr.EOM, "EOM"],
]);

/** Writes as text, without the addresses of pages: "hyp ghcb SINT2 200f3". */
function told({ writes }: TestGuest): string[] {
	return writes.splice(0).map(({ synic, path, msr, value }) => {
		const isPage = msr === Msr.SIMP || msr === Msr.SIEFP;
		const text = isPage ? `${value >> 12n === 0n ? "no page" : "page"} ${value & 1n}` : value.toString(16);
		return `${synic.slice(0, 3)} ${path} ${NAMES.get(msr)} ${text}`;
	});
}

const platform = (name: string) => PLATFORMS[name] as (typeof PLATFORMS)[string];

/** Set-up and take-down of one processor: sections of Linux's hv.c, in the order of its writes. */
const ROWS: readonly [string, string, boolean, readonly string[], readonly string[]][] = [
	...["bare", "SNP without paravisor", "TDX without paravisor", "VBS"].map(
		(name) =>
			[
				name,
				name,
				false,
				["hyp direct SIMP page 1", "hyp direct SIEFP page 1", "hyp direct SINT2 200f3", "hyp direct SCONTROL 1"],
				["hyp direct SINT2 300f3", "hyp direct SIMP no page 0", "hyp direct SIEFP no page 0", "hyp direct SCONTROL 0"],
			] as [string, string, boolean, string[], string[]],
	),
	...[
		["SNP with paravisor", "ghcb"],
		["TDX with paravisor", "tdcall"],
	].flatMap(
		([name, path]) =>
			[
				[
					`${name}, not confidential`,
					name,
					false,
					[
						`hyp ${path} SIMP page 1`,
						`hyp ${path} SIEFP page 1`,
						`hyp ${path} SINT2 200f3`,
						"par direct SINT2 1200f3",
						`hyp ${path} SCONTROL 1`,
					],
					[
						`hyp ${path} SINT2 300f3`,
						"par direct SINT2 1300f3",
						`hyp ${path} SIMP page 0`,
						`hyp ${path} SIEFP page 0`,
						`hyp ${path} SCONTROL 0`,
					],
				],
				[
					`${name}, confidential`,
					name,
					true,
					[
						"par direct SIMP page 1",
						"par direct SIEFP page 1",
						`hyp ${path} SIMP page 1`,
						`hyp ${path} SIEFP page 1`,
						`hyp ${path} SINT2 200f3`,
						"par direct SINT2 200f3",
						"par direct SCONTROL 1",
					],
					[
						`hyp ${path} SINT2 300f3`,
						"par direct SINT2 300f3",
						`hyp ${path} SIMP page 0`,
						`hyp ${path} SIEFP page 0`,
						"par direct SIMP page 0",
						"par direct SIEFP page 0",
						"par direct SCONTROL 0",
					],
				],
			] as [string, string, boolean, string[], string[]][],
	),
];

describe("setting up a processor", () => {
	it.each(ROWS)("writes these registers in this order and by these paths, and takes them back: %s", async (...row) => {
		const [, name, confidential, up, down] = row;
		const test = await testGuest(platform(name), { confidential, vps: 1 });
		expect(told(test)).toEqual(up);
		test.guest.disable(0);
		expect(told(test)).toEqual(down);
		expect(test.guest.enable(0)).toBe(true);
		expect(told(test)).toEqual(up);
	});

	it("leaves the auto-EOI bit out where the hypervisor advises against it", async () => {
		const test = await testGuest(platform("bare"), { autoEoi: false, vps: 1 });
		expect(test.machine.hypervisor.readRegister(0, SINT2)).toBe(0xf3n);
	});

	it("is refused where a register cannot be read, and without the paravisor that it needs", async () => {
		const test = await testGuest(platform("bare"), { vps: 1 });
		expect(test.guest.enable(1)).toBe(false);
		expect(test.machine.readRegister(0, "paravisor", SINT2)).toBe(null);
		expect(test.machine.writeRegister(0, "paravisor", SINT2, 0xf3n)).toBe(false);
		await expect(testGuest(platform("bare"), { confidential: true })).rejects.toThrow("needs a paravisor");
		expect(() => test.machine.guestPort("paravisor", 0, VMBUS_SINT)).toThrow("no paravisor");
	});
});

describe("the pages", () => {
	const pageOf = (test: TestGuest, synic: "hypervisor" | "paravisor", msr: number) =>
		Number(((test.machine.synic(synic).readRegister(0, msr) as bigint) & ~0xfffn) % BigInt(VTOM));

	it.each([
		["bare", false, "hypervisor", RangeState.Shared],
		["SNP without paravisor", false, "hypervisor", RangeState.Shared],
		["TDX without paravisor", false, "hypervisor", RangeState.Shared],
		["VBS", false, "hypervisor", RangeState.Private],
		["SNP with paravisor", true, "paravisor", RangeState.Private],
		["TDX with paravisor", true, "paravisor", RangeState.Private],
	] as const)("of the guest's own are zero, and shared only where the hypervisor needs it: %s", async (...row) => {
		const [name, confidential, owner, state] = row;
		const test = await testGuest(platform(name), { confidential, vps: 1 });
		for (const msr of [Msr.SIMP, Msr.SIEFP]) {
			const gpa = pageOf(test, owner, msr);
			expect(test.engine.ram.rangeState(gpa, 4096)).toBe(state);
			expect(test.engine.ram.read(gpa, 4096)).toEqual(new Uint8Array(4096));
		}
	});

	it("for hypercalls are decrypted without paravisor only; TDX's for messages unless confidential", async () => {
		const purposes = async (name: string, confidential: boolean) => {
			const { pages } = await testGuest(platform(name), { confidential, vps: 1 });
			const shared = new Set(pages.log.filter((line) => line.startsWith("decrypt")).map((line) => line.split(" ")[1]));
			return pages.log
				.filter((line) => line.startsWith("alloc"))
				.map(
					(line) =>
						`${line.split(" ").slice(2).join(" ")}${shared.has(line.split(" ")[1] as string) ? ": shared" : ""}`,
				);
		};
		expect(await purposes("bare", false)).toEqual(["hypercall input", "SynIC message", "SynIC event"]);
		expect(await purposes("SNP without paravisor", false)).toEqual([
			"hypercall input: shared",
			"SynIC message: shared",
			"SynIC event: shared",
		]);
		expect(await purposes("SNP with paravisor", false)).toEqual(["hypercall input"]);
		expect(await purposes("SNP with paravisor", true)).toEqual(["hypercall input", "SynIC message", "SynIC event"]);
		expect(await purposes("TDX with paravisor", false)).toEqual(["hypercall input", "post message: shared"]);
		expect(await purposes("TDX with paravisor", true)).toEqual([
			"hypercall input",
			"post message",
			"SynIC message",
			"SynIC event",
		]);
	});

	it("go back encrypted; one whose state is unknown is leaked, never freed", async () => {
		const test = await testGuest(platform("SNP without paravisor"), { vps: 2 });
		for (const vp of [1, 0]) test.guest.disable(vp);
		test.pages.log.length = 0;
		test.pages.fail.add("encrypt 2");
		test.guest.free();
		expect(test.pages.log).toEqual([
			"encrypt 102000",
			"encrypt fails 103000",
			"leak 103000",
			"free 102000",
			"encrypt 104000",
			"encrypt 105000",
			"free 104000",
			"free 105000",
		]);
		test.guest.free();
		expect(test.pages.log).toHaveLength(8);
		test.hv.freeInputs();
		expect(test.pages.log.slice(8)).toEqual(["encrypt 100000", "free 100000", "encrypt 101000", "free 101000"]);
	});

	it("that cannot be decrypted are leaked, and the others given back", async () => {
		const test = await testGuest(platform("SNP without paravisor"), { vps: 2, enabled: false });
		expect(test.hv.allocateInputs()).toBe("ok");
		test.pages.log.length = 0;
		test.pages.fail.add("decrypt 4");
		expect(test.guest.allocate()).toBe("conversion-failed");
		expect(test.pages.log.filter((line) => !line.startsWith("alloc"))).toEqual([
			"decrypt 102000",
			"decrypt fails 103000",
			"leak 103000",
			"encrypt 102000",
			"free 102000",
		]);
	});
});

describe("pages that the host names", () => {
	it("are never the guest's private ones: what is there stays as it is", async () => {
		const test = await testGuest(platform("SNP with paravisor"), { vps: 1, enabled: false });
		const secretGpa = 0x200000;
		test.engine.ram.fill(secretGpa, 8192, 0x5a);
		test.machine.givePages(0, secretGpa, secretGpa + 4096);
		expect(test.hv.allocateInputs()).toBe("ok");
		expect(test.guest.enable(0)).toBe(true);
		test.onInterrupt(0);
		expect([test.events, test.messages]).toEqual([[], []]);
		expect(test.engine.ram.read(secretGpa, 8192).every((byte) => byte === 0x5a)).toBe(true);
	});

	it("run out, and the guest has none", async () => {
		const test = await testGuest(platform("SNP without paravisor"), { vps: 2, enabled: false });
		expect(test.hv.allocateInputs()).toBe("ok");
		test.pages.log.length = 0;
		let left = 3;
		const alloc = test.pages.alloc.bind(test.pages);
		test.pages.alloc = (pages, purpose) => (left-- > 0 ? alloc(pages, purpose) : -1);
		expect(test.guest.allocate()).toBe("no-memory");
		expect(test.pages.log.filter((line) => line.startsWith("free"))).toEqual([
			"free 102000",
			"free 103000",
			"free 104000",
		]);
	});
});

/** Every way from a server to the guest: [guest, confidential, sender, what arrives where, EOM to]. */
const DELIVERIES = [
	["bare", false, "hypervisor", "hypervisor", "hypervisor"],
	["SNP with paravisor", false, "hypervisor", "hypervisor", "hypervisor"],
	["SNP with paravisor", false, "paravisor", "hypervisor", "hypervisor"],
	["TDX with paravisor", false, "paravisor", "hypervisor", "hypervisor"],
	["SNP with paravisor", true, "paravisor", "paravisor", "paravisor"],
	["TDX with paravisor", true, "paravisor", "paravisor", "paravisor"],
] as const;

describe("what reaches the guest", () => {
	it.each(DELIVERIES)("%s, confidential %s: messages and events of the %s, on its page, EOM to it", async (...row) => {
		const [name, confidential, sender, page, eom] = row;
		const test = await testGuest(platform(name), { confidential });
		test.writes.length = 0;
		const port = test.machine.guestPort(sender, 1, VMBUS_SINT);
		test.held = true;
		for (const value of [1, 2, 3]) expect(port.post(1, Uint8Array.of(value))).toBe(HvStatus.SUCCESS);
		expect(test.machine.signalGuest(sender, 1, VMBUS_SINT, 77)).toBe(HvStatus.SUCCESS);
		test.held = false;
		test.onInterrupt(1);
		expect(test.messages.map(({ payload, source, vp }) => [payload[0], source, vp])).toEqual([
			[1, page, 1],
			[2, page, 1],
			[3, page, 1],
		]);
		expect(test.events).toEqual([{ vp: 1, flag: 77, source: page }]);
		expect(
			told(test)
				.map((line) => line.split(" "))
				.map(([synic, , register]) => `${synic} ${register}`),
		).toEqual(Array(2).fill(`${eom.slice(0, 3)} EOM`));
		expect(test.interrupts.every(({ source }) => source === page)).toBe(true);
	});

	it("is refused from the host's SynIC for messages while Confidential VMBus is in use", async () => {
		const test = await testGuest(platform("SNP with paravisor"), { confidential: true });
		expect(test.machine.guestPort("hypervisor", 0, VMBUS_SINT).post(1, Uint8Array.of(1))).toBe(
			HvStatus.INVALID_SYNIC_STATE,
		);
	});

	it("of relayed channels sets the hypervisor's flags, and interrupts only through the paravisor's filter", async () => {
		const test = await testGuest(platform("SNP with paravisor"), { confidential: true });
		expect(test.machine.signalGuest("hypervisor", 0, VMBUS_SINT, 5)).toBe(HvStatus.SUCCESS);
		expect(test.interrupts).toEqual([]);
		test.machine.proxy?.relay(VMBUS_SINT);
		test.machine.signalGuest("hypervisor", 0, VMBUS_SINT, 6);
		expect(test.interrupts).toEqual([
			{ vp: 0, vector: 0xf3, sint: 2, source: "hypervisor", proxied: true, autoEoi: true },
		]);
		// one look finds both, and the paravisor's after the hypervisor's
		expect(test.events.map(({ flag, source }) => [flag, source])).toEqual([
			[5, "hypervisor"],
			[6, "hypervisor"],
		]);
	});

	it("does not interrupt through the paravisor while the hypervisor's SynIC is off", async () => {
		const test = await testGuest(platform("SNP with paravisor"), { confidential: false });
		test.machine.hypervisor.writeRegister(0, Msr.SCONTROL, 0n);
		test.machine.signalGuest("hypervisor", 0, VMBUS_SINT, 5);
		expect(test.interrupts).toEqual([]);
	});

	it("is lost when the paravisor's copy of the SINT has the wrong proxy bit", async () => {
		const test = await testGuest(platform("SNP with paravisor"), { confidential: true });
		const wrong = BigInt(0xf3 | SintBit.AutoEoi | SintBit.Proxy);
		test.machine.paravisor?.writeRegister(0, SINT2, wrong);
		expect(test.machine.guestPort("paravisor", 0, VMBUS_SINT).post(1, Uint8Array.of(1))).toBe(
			HvStatus.INVALID_SYNIC_STATE,
		);
		const other = await testGuest(platform("SNP with paravisor"), { confidential: false });
		other.machine.paravisor?.writeRegister(0, SINT2, BigInt(0xf3 | SintBit.AutoEoi));
		other.machine.signalGuest("hypervisor", 0, VMBUS_SINT, 5);
		expect(other.interrupts).toEqual([]);
	});

	it("is looked at in this order: the hypervisor's events, the paravisor's, then its message, the paravisor's", async () => {
		const test = await testGuest(platform("SNP with paravisor"), { confidential: true });
		test.held = true;
		const seen: string[] = [];
		test.machine.guestPort("paravisor", 0, VMBUS_SINT).post(1, Uint8Array.of(1));
		test.machine.signalGuest("paravisor", 0, VMBUS_SINT, 9);
		test.machine.signalGuest("hypervisor", 0, VMBUS_SINT, 8);
		// the host owns its page and may write there what it likes
		const simp = Number((test.machine.hypervisor.readRegister(0, Msr.SIMP) as bigint) & ~0xfffn) - VTOM;
		const slot = new Uint8Array(256);
		slot.set([1, 0, 0, 0, 2]);
		test.engine.ram.write(simp + 512, slot);
		test.guest.takeEvents(0, (flag, source) => seen.push(`${source} event ${flag}`));
		test.guest.takeMessages(0, ({ source }) => seen.push(`${source} message`));
		expect(seen).toEqual(["hypervisor event 8", "paravisor event 9", "hypervisor message", "paravisor message"]);
	});
});

/** How calls leave the guest: [guest, confidential, path of HvPostMessage, of HvSignalEvent]. */
const PATHS = [
	["bare", false, "direct", "direct"],
	["SNP without paravisor", false, "direct", "direct"],
	["TDX without paravisor", false, "direct", "direct"],
	["VBS", false, "direct", "direct"],
	["SNP with paravisor", false, "ghcb", "ghcb"],
	["TDX with paravisor", false, "tdcall", "tdcall"],
	["VBS with paravisor", false, null, null],
	["SNP with paravisor", true, "direct", "ghcb"],
	["TDX with paravisor", true, "direct", "tdcall"],
] as const;

describe("what leaves the guest", () => {
	it.each(PATHS)("%s, confidential %s: messages by %s, signals by %s", async (name, confidential, post, signal) => {
		const test = await testGuest(platform(name), { confidential });
		const taken: string[] = [];
		const party = platform(name).paravisor ? "paravisor" : "hypervisor";
		test.machine.connections[party].bindMessages(4, {
			post: (type, payload, { trusted, vp }) => {
				taken.push(`message ${type} ${payload} ${trusted} ${vp}`);
				return HvStatus.SUCCESS;
			},
		});
		test.machine.connections[party].bindEvents(0x2001, { signal: (flag) => taken.push(`event ${flag}`) });
		const status = post === null ? HvStatus.INVALID_PARAMETER : HvStatus.SUCCESS;
		expect(test.hv.post(1, 4, 1, Uint8Array.of(5, 6))).toBe(status);
		expect(test.hv.signal(1, 0x2001)).toBe(status);
		expect(test.calls.map(({ path }) => path)).toEqual([post, signal].filter((path) => path !== null));
		expect(taken).toEqual(post === null ? [] : [`message 1 5,6 ${confidential} 1`, "event 0"]);
		expect(test.calls.map(({ trusted }) => trusted)).toEqual(post === null ? [] : [confidential, false]);
	});

	it("goes to the host when the paravisor does not know the connection, but never what traps to the paravisor", async () => {
		for (const name of ["SNP with paravisor", "TDX with paravisor"]) {
			const test = await testGuest(platform(name));
			test.machine.connections.hypervisor.bindMessages(1, { post: () => HvStatus.SUCCESS });
			expect(test.hv.post(0, 1, 1, Uint8Array.of(1))).toBe(HvStatus.SUCCESS);
			expect(test.calls.at(-1)?.by).toBe("hypervisor");
			const confidential = await testGuest(platform(name), { confidential: true });
			confidential.machine.connections.hypervisor.bindMessages(1, { post: () => HvStatus.SUCCESS });
			expect(confidential.hv.post(0, 1, 1, Uint8Array.of(1))).toBe(HvStatus.INVALID_CONNECTION_ID);
		}
	});

	it("is lost to the paravisor's devices without the intercept for unknown connections", async () => {
		for (const [intercept, status] of [
			[true, HvStatus.SUCCESS],
			[false, HvStatus.INVALID_CONNECTION_ID],
		] as const) {
			const test = await testGuest(platform("SNP with paravisor"), { confidential: true, intercept });
			test.machine.connections.paravisor.bindEvents(0x2001, { signal: () => {} });
			expect(test.hv.signal(0, 0x2001)).toBe(status);
		}
	});

	it("shows the host no message that traps: its input stays in private pages", async () => {
		for (const name of ["SNP with paravisor", "TDX with paravisor"]) {
			const test = await testGuest(platform(name), { confidential: true, vps: 1 });
			const secret = Uint8Array.from({ length: 240 }, (_, i) => i ^ 0x5a);
			test.machine.connections.paravisor.bindMessages(4, { post: () => HvStatus.SUCCESS });
			expect(test.hv.post(0, 4, 1, secret)).toBe(HvStatus.SUCCESS);
			const needle = Buffer.from(secret);
			let found = 0;
			for (let gpa = 0; gpa < 2 ** 22; gpa += 4096) {
				const page = Buffer.from(test.engine.ram.read(gpa, 4096));
				if (!page.includes(needle)) continue;
				found++;
				expect(test.engine.ram.rangeState(gpa, 4096)).toBe(RangeState.Private);
			}
			expect(found).toBe(1);
		}
	});
});
