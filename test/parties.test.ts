import { describe, expect, it } from "vitest";
import { loadCipher } from "../src/coco/ciphertext.ts";
import { PageConverter } from "../src/coco/convert.ts";
import { Parties } from "../src/coco/parties.ts";
import { PLATFORMS, type Platform } from "../src/coco/platform.ts";
import { Engine, PageState } from "../src/index.ts";

const ALL = Object.values(PLATFORMS);
async function partiesOn(platform: Platform) {
	const engine = await Engine.create({ ram: "64K", swiotlb: null });
	engine.ram.fill(0, 65536, 0x5a);
	engine.ram.convert(0x2000, 0x1000, PageState.Shared);
	engine.ram.convert(0x4000, 0x1000, PageState.Hidden);
	return { engine, parties: new Parties(new PageConverter(engine, platform, { cipher: await loadCipher() })) };
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
});

describe("a device", () => {
	it("reaches shared pages only at T=0, and both kinds at T=1 in their own form", async () => {
		for (const platform of ALL) {
			const { parties } = await partiesOn(platform);
			const bit = platform.encryptionBit === null ? 0 : 2 ** platform.encryptionBit;
			const secret = 0x1000 + (platform.bitMeans === "private" ? bit : 0);
			const open = 0x2000 + (platform.bitMeans === "shared" ? bit : 0);
			const device = parties.device(3);
			expect(device.read(open, 20)).toEqual(plain);
			if (platform.hostWrite === "refused") expect(() => device.write(secret, plain)).toThrow(/private-page/);
			device.t = 1;
			const { total } = parties.violations;
			expect(device.read(secret, 20)).toEqual(plain);
			expect(device.read(open, 20)).toEqual(plain);
			expect(parties.violations.total).toBe(total);
			if (bit === 0) continue;
			const wrong = 0x2000 + (platform.bitMeans === "private" ? bit : 0);
			expect(() => device.write(wrong, plain)).toThrow(/wrong-encoding/);
			expect(parties.violations.list.at(-1)).toMatchObject({ who: "device 3", gpa: 0x2000, address: wrong });
		}
	});

	it("at a hostile address has an outside-ram fault", async () => {
		const { parties } = await partiesOn(PLATFORMS.tdx);
		for (const address of [Number.NaN, -1, 0.5, 65536, 2 ** 52, 2 ** 64, Number.POSITIVE_INFINITY])
			expect(() => parties.device(0).read(address, 8)).toThrow(/outside-ram/);
	});
});
