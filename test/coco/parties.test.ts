import { describe, expect, it } from "vitest";
import { CipherUnavailable, loadCipher } from "../../src/coco/platform/ciphertext.ts";
import { PageConverter } from "../../src/coco/platform/convert.ts";
import { Parties } from "../../src/coco/platform/parties.ts";
import { type EncryptionBit, PLATFORMS, type Platform } from "../../src/coco/platform/platform.ts";
import { AccessFault, type Violation, ViolationLog } from "../../src/coco/platform/violations.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";

const ALL = Object.values(PLATFORMS);
async function partiesOn(platform: Platform) {
	const engine = await Engine.create({ ram: "64K", swiotlb: null });
	engine.ram.fill(0, 65536, 0x5a);
	engine.ram.convert(0x2000, 0x1000, PageState.Shared);
	engine.ram.convert(0x4000, 0x1000, PageState.Hidden);
	const converter = new PageConverter(engine, platform, { cipher: await loadCipher() });
	return { engine, converter, parties: new Parties(converter) };
}
const plain = new Uint8Array(20).fill(0x5a);

describe("the host", () => {
	it("gets of a private page what the platform says, and its access is recorded with its bytes", async () => {
		for (const platform of ALL) {
			const { parties } = await partiesOn(platform);
			const { host, violations } = parties;
			expect(host.read(0x2004, 20)).toEqual(plain);
			expect(violations.total).toBe(0);
			if (platform.hostRead === "fault") expect(() => host.read(0x1004, 20)).toThrow(/private-page: fault/);
			else if (platform.hostRead === "zeros") expect(host.read(0x1004, 20)).toEqual(new Uint8Array(20));
			else expect(Buffer.compare(host.read(0x1004, 20), plain) === 0).toBe(platform.hostRead === "plain");
			if (platform.hostRead !== "plain")
				expect(violations.list).toMatchObject([{ who: "host", what: "private-page", gpa: 0x1004, bytes: 20 }]);
			expect(() => host.read(0x4000, 1)).toThrow(/hidden-page/);
		}
	});

	it("that writes a private page is refused, or on TDX corrupts what the guest's next read notices", async () => {
		for (const platform of ALL.filter(({ hostWrite }) => hostWrite !== "plain")) {
			const { parties } = await partiesOn(platform);
			if (platform.hostWrite === "refused") {
				expect(() => parties.host.write(0x1000, plain)).toThrow(/private-page: refused/);
				expect(parties.guest.read(0x1000, 20)).toEqual(plain);
			} else {
				parties.host.write(0x1000, new Uint8Array(4));
				expect(() => parties.guest.read(0x1020, 4)).toThrow(/corrupted-line/);
				expect(() => parties.guest.write(0x1020, plain)).toThrow(/corrupted-line/);
				parties.guest.write(0x1000, new Uint8Array(64).fill(1));
				expect(parties.guest.read(0x1020, 4)).toEqual(new Uint8Array(4).fill(1));
			}
		}
	});

	it("sees two ciphertexts of the same bytes at two addresses, and the guest reads them once the page is shared", async () => {
		for (const platform of [PLATFORMS.snp, PLATFORMS["snp-vtom"]]) {
			const { engine, parties, converter } = await partiesOn(platform);
			engine.ram.fill(0x7000, 0x2000, 0x5a);
			const [first, second] = [parties.host.read(0x7000, 4096), parties.host.read(0x8000, 4096)];
			expect(Buffer.compare(first, second)).not.toBe(0);
			expect(parties.host.read(0x7003, 5)).toEqual(first.subarray(3, 8));
			converter.convert(0x7000, 0x2000, PageState.Shared);
			expect(Buffer.compare(parties.guest.read(0x7000, 4096), first)).toBe(0);
			expect(Buffer.compare(parties.host.read(0x8000, 4096), second)).toBe(0);
			// and what the host writes there is what it sees of the page when it is private again
			parties.host.write(0x7100, plain);
			converter.convert(0x7000, 0x1000, PageState.Private);
			expect(parties.host.read(0x7100, 20)).toEqual(plain);
			expect(parties.guest.read(0x7100, 20)).not.toEqual(plain);
		}
	});

	it("cannot be shown ciphertext without AES: a named error, and the access is recorded all the same", async () => {
		const engine = await Engine.create({ ram: "64K", swiotlb: null });
		const parties = new Parties(new PageConverter(engine, PLATFORMS.snp));
		engine.ram.convert(0x2000, 0x1000, PageState.Shared);
		expect(() => parties.host.read(0x1ff0, 32)).toThrow(/needs AES-XTS of node:crypto: this guest was made without it/);
		expect(() => parties.device(1).read(0x1000, 1)).toThrow(CipherUnavailable);
		expect(parties.violations.list).toMatchObject([
			{ who: "host", what: "private-page", result: "ciphertext", gpa: 0x1ff0, bytes: 16 },
			{ who: "device 1", what: "private-page", result: "ciphertext", gpa: 0x1000, bytes: 1 },
		]);
		expect(parties.host.read(0x2000, 4)).toEqual(new Uint8Array(4));
		const garbage = parties.device(1).read(2 ** 51 + 0x2000, 64);
		expect(garbage.filter((byte) => byte === 0).length).toBeLessThan(16);
		expect(() => parties.host.write(0x1000, plain)).toThrow(/private-page: refused/);
	});

	it("corrupts a line only until its page is converted", async () => {
		const { parties, converter } = await partiesOn(PLATFORMS.tdx);
		parties.host.write(0x1000, plain);
		converter.convert(0x1000, 0x1000, PageState.Shared);
		converter.convert(0x1000, 0x1000, PageState.Private);
		expect(parties.guest.read(0x1000, 64)).toEqual(new Uint8Array(64));
	});
});

describe("the paravisor", () => {
	it("reads and writes every kind of page, hidden ones that neither host nor device can reach", async () => {
		for (const platform of ALL) {
			const { parties } = await partiesOn(platform);
			for (const gpa of [0x1000, 0x2000, 0x4000]) {
				expect(parties.paravisor.read(gpa, 20)).toEqual(plain);
				parties.paravisor.write(gpa + 4, Uint8Array.of(1, 2));
				expect(parties.guest.read(gpa + 3, 4)).toEqual(Uint8Array.of(0x5a, 1, 2, 0x5a));
			}
			expect(parties.violations.total).toBe(0);
			const devices = ([0, 1] as const).map((t) => parties.device(t, { t, encoded: false }));
			for (const view of [parties.host, ...devices]) {
				expect(() => view.read(0x4000, 20)).toThrow(/hidden-page: fault \(not mapped by the host\)/);
				expect(() => view.write(0x4000, plain)).toThrow(/hidden-page: refused \(not mapped by the host\)/);
			}
			expect(parties.violations.total).toBe(6);
			expect(parties.guest.read(0x4003, 4)).toEqual(Uint8Array.of(0x5a, 1, 2, 0x5a));
		}
	});

	it("meets the line that the host corrupted, as the guest and a trusted device do; the host does not", async () => {
		const { parties } = await partiesOn(PLATFORMS.tdx);
		parties.host.write(0x107f, plain);
		for (const view of [parties.guest, parties.paravisor, parties.device(1, { t: 1 })]) {
			expect(() => view.read(0x1000, 256)).toThrow(/192 bytes at gpa 0x1040: corrupted-line: fault \(machine check\)/);
			expect(() => view.write(0x10a0, plain)).toThrow(/corrupted-line: refused/);
			expect(view.read(0x10c0, 20)).toEqual(plain);
		}
		expect(parties.host.read(0x1040, 20)).toEqual(new Uint8Array(20));
		// a write ends before the line that it would have to read
		expect(() => parties.guest.write(0x1000, new Uint8Array(0x50).fill(1))).toThrow(/16 bytes at gpa 0x1040/);
		expect(parties.guest.read(0x1000, 64)).toEqual(new Uint8Array(64).fill(1));
		parties.guest.write(0x1040, new Uint8Array(128).fill(2));
		expect(parties.guest.read(0x1000, 256).subarray(64, 192)).toEqual(new Uint8Array(128).fill(2));
	});
});

describe("a party", () => {
	it("that writes over several pages writes up to the first that it cannot", async () => {
		const { parties } = await partiesOn(PLATFORMS.cca);
		expect(() => parties.host.write(0x2ff8, new Uint8Array(16).fill(3))).toThrow(
			"host: write of 8 bytes at gpa 0x3000: private-page: refused (granule protection fault in the host)",
		);
		expect(parties.guest.read(0x2ff4, 16)).toEqual(
			Uint8Array.from({ length: 16 }, (_, i) => (i < 4 || i > 11 ? 0x5a : 3)),
		);
		expect(() => parties.guest.write(0xfffc, new Uint8Array(8))).toThrow(/4 bytes at gpa 0x10000: outside-ram/);
		expect(parties.guest.read(0xfffb, 5)).toEqual(Uint8Array.of(0x5a, 0, 0, 0, 0));
	});

	it("cannot touch no bytes, or a part of one", async () => {
		const { parties } = await partiesOn(PLATFORMS.snp);
		for (const view of [parties.guest, parties.host, parties.device(0)]) {
			for (const bytes of [0, -1, 1.5, Number.NaN, 2 ** 31]) expect(() => view.read(0x2000, bytes)).toThrow(/BAD_SIZE/);
			expect(() => view.write(0x2000, new Uint8Array())).toThrow(/write\(0x2000, 0 bytes\) by .*BAD_SIZE/);
		}
		expect(parties.violations.total).toBe(0);
	});
});

describe("the log of violations", () => {
	it("keeps the latest, counts all, and tells of each", () => {
		const log = new ViolationLog(2);
		const told: Violation[] = [];
		const one = {
			who: "host",
			device: null,
			access: "read",
			what: "outside-ram",
			result: "fault",
			gpa: 1,
			bytes: 1,
			address: 1,
		} as const;
		log.record(one);
		log.onRecord = (violation) => told.push(violation);
		for (const gpa of [2, 3]) log.record({ ...one, gpa });
		expect(log.list.map(({ gpa }) => gpa)).toEqual([2, 3]);
		expect(told.map(({ gpa }) => gpa)).toEqual([2, 3]);
		expect(log.total).toBe(3);
	});

	it("holds as many as it was asked to, 1024 if nobody did", async () => {
		const { converter } = await partiesOn(PLATFORMS.cca);
		for (const [keepViolations, kept] of [
			[undefined, 1024],
			[0, 0],
			[7, 7],
		] as const) {
			const { host, violations } = new Parties(converter, keepViolations === undefined ? {} : { keepViolations });
			for (let i = 0; i < 1030; i++) expect(() => host.read(0x1000, 1)).toThrow(AccessFault);
			expect([violations.total, violations.list.length]).toEqual([1030, kept]);
		}
		for (const keepViolations of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
			expect(() => new Parties(converter, { keepViolations })).toThrow(/keeps a whole number of violations from 0/);
	});
});

describe("a device", () => {
	it("reaches shared pages only at T=0, and both kinds at T=1 in their own form", async () => {
		for (const platform of ALL) {
			const { parties } = await partiesOn(platform);
			const bit = platform.dmaBit === null ? 0 : 2 ** platform.dmaBit.bit;
			const secret = 0x1000 + (platform.dmaBit?.means === "private" ? bit : 0);
			const open = 0x2000 + (platform.dmaBit?.means === "shared" ? bit : 0);
			const device = parties.device(3);
			expect(device.read(open, 20)).toEqual(plain);
			if (platform.hostWrite === "refused") expect(() => device.write(secret, plain)).toThrow(/private-page/);
			device.t = 1;
			const { total } = parties.violations;
			expect(device.read(secret, 20)).toEqual(plain);
			expect(device.read(open, 20)).toEqual(plain);
			expect(parties.violations.total).toBe(total);
			if (bit === 0) continue;
			const wrong = 0x2000 + (platform.dmaBit?.means === "private" ? bit : 0);
			expect(() => device.write(wrong, plain)).toThrow(/wrong-encoding/);
			expect(parties.violations.list.at(-1)).toMatchObject({ who: "device 3", gpa: 0x2000, address: wrong });
		}
	});

	it("with plain addresses is judged by the page's state and its T bit alone", async () => {
		for (const platform of ALL) {
			const { parties } = await partiesOn(platform);
			const device = parties.device(4, { encoded: false });
			expect(device.t).toBe(0);
			expect(device.read(0x2000, 20)).toEqual(plain);
			if (platform.hostWrite === "refused") expect(() => device.write(0x1000, plain)).toThrow(/private-page: refused/);
			device.t = 1;
			const { total } = parties.violations;
			for (const gpa of [0x1000, 0x2000]) expect(device.read(gpa, 20)).toEqual(plain);
			expect(parties.violations.total).toBe(total);
			if (platform.dmaBit === null) continue;
			const address = 2 ** platform.dmaBit.bit + 0x2000;
			expect(() => device.read(address, 20)).toThrow(/outside-ram: fault \(no memory\)/);
			expect(parties.violations.list.at(-1)).toMatchObject({ gpa: address, address, bytes: 20 });
		}
	});

	it("at T=1 that reads a private page by the shared form gets what a stranger to the key gets", async () => {
		for (const [name, result] of [
			["snp", "ciphertext"],
			["snp-vtom", "ciphertext"],
			["tdx", "zeros"],
			["cca", "fault"],
		] as const) {
			// of a platform whose DMA addresses carry the bit of its page tables, as not every one's do
			const dmaBit = PLATFORMS[name].pageTableBit as EncryptionBit;
			const { parties } = await partiesOn({ ...PLATFORMS[name], dmaBit });
			const address = 0x1000 + (dmaBit.means === "shared" ? 2 ** dmaBit.bit : 0);
			const device = parties.device(2, { t: 1 });
			if (result === "fault")
				expect(() => device.read(address, 20)).toThrow(
					`device 2: read of 20 bytes at gpa 0x1000, address 0x${address.toString(16)}: wrong-encoding: fault (the address has the form of the other kind of page)`,
				);
			else if (result === "zeros") expect(device.read(address, 20)).toEqual(new Uint8Array(20));
			else expect(device.read(address, 20)).toEqual(parties.host.read(0x1000, 20));
			expect(parties.violations.list[0]).toEqual({
				who: "device 2",
				device: 2,
				access: "read",
				what: "wrong-encoding",
				result,
				gpa: 0x1000,
				bytes: 20,
				address,
			});
		}
	});

	it("at a hostile address has an outside-ram fault", async () => {
		const { parties } = await partiesOn(PLATFORMS.tdx);
		for (const address of [Number.NaN, -1, 0.5, 65536, 2 ** 52, 2 ** 64, Number.POSITIVE_INFINITY])
			expect(() => parties.device(0).read(address, 8)).toThrow(/outside-ram/);
	});
});
