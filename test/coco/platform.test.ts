import { afterEach, describe, expect, it, vi } from "vitest";
import { loadCipher, seededCipher } from "../../src/coco/platform/ciphertext.ts";
import {
	addressEncoding,
	decodeAddress,
	type EncryptionBit,
	PLATFORMS,
	platformNamed,
} from "../../src/coco/platform/platform.ts";
import { attributesOf, isConfidentialGuest } from "../../src/coco/rules/attributes.ts";
import { KERNELS } from "../../src/coco/rules/kernel.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Direction } from "../../src/types.ts";
import { isGuest, reportsEncryption } from "../helpers/kernel-facts.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { KERNEL_NAMES } from "../helpers/trust-guest.ts";

printSeed("platform");
const random = new Random(SEED);
const ALL = Object.values(PLATFORMS);

/** What documents say, written down apart from the table. */
const EXPECTED = {
	snp: {
		pages: "51 private",
		dma: "51 private",
		read: "ciphertext",
		write: "refused",
		shared: "scrambled",
		private: "scrambled",
	},
	"snp-vtom": {
		pages: "46 shared",
		dma: "none",
		read: "ciphertext",
		write: "refused",
		shared: "scrambled",
		private: "scrambled",
	},
	tdx: {
		pages: "47 shared",
		dma: "none",
		read: "zeros",
		write: "corruption",
		shared: "scrambled",
		private: "zeroed",
	},
	cca: {
		pages: "47 shared",
		dma: "47 shared",
		read: "fault",
		write: "refused",
		shared: "zeroed",
		private: "zeroed",
	},
	pkvm: { pages: "none", dma: "none", read: "fault", write: "refused", shared: "kept", private: "kept" },
	"s390-pv": { pages: "none", dma: "none", read: "fault", write: "refused", shared: "kept", private: "kept" },
	sme: {
		pages: "47 private",
		dma: "47 private",
		read: "ciphertext",
		write: "corruption",
		shared: "scrambled",
		private: "scrambled",
	},
	arm64: { pages: "none", dma: "none", read: "plain", write: "plain", shared: "kept", private: "kept" },
	none: { pages: "none", dma: "none", read: "plain", write: "plain", shared: "kept", private: "kept" },
};
const STEPS = {
	snp: ["rescind host attribute", "attribute host accept"],
	"snp-vtom": ["unmap attribute host map", "unmap attribute host map"],
	tdx: ["attribute host", "host accept attribute"],
	cca: ["unmap host map", "unmap host map"],
	pkvm: ["host", "host"],
	"s390-pv": ["host", "host"],
	sme: ["attribute", "attribute"],
	arm64: ["", ""],
	none: ["", ""],
};

describe("the platforms", () => {
	it("are the nine, each under its own name and with the source of its facts", () => {
		expect(Object.keys(PLATFORMS).sort()).toEqual(Object.keys(EXPECTED).sort());
		for (const [key, platform] of Object.entries(PLATFORMS)) {
			expect(platform.name).toBe(key);
			expect(platformNamed(key)).toBe(platform);
			expect(platform.source).toMatch(/Linux 6\.1\d/);
		}
	});

	it("say what the host gets, where the bit stands and what it means, and what a conversion leaves", () => {
		for (const platform of ALL) {
			const { pageTableBit, dmaBit, hostRead: read, hostWrite: write, conversion } = platform;
			const { toShared, toPrivate } = conversion;
			const text = (bit: EncryptionBit | null) => (bit === null ? "none" : `${bit.bit} ${bit.means}`);
			const bits = { pages: text(pageTableBit), dma: text(dmaBit) };
			expect({ ...bits, read, write, shared: toShared, private: toPrivate }).toEqual(
				EXPECTED[platform.name as keyof typeof EXPECTED],
			);
		}
	});

	it("convert pages by the steps that Linux takes, in its order for each direction", () => {
		for (const { name, conversion } of ALL) {
			const names = [conversion.steps.toShared, conversion.steps.toPrivate].map((steps) =>
				steps.map(({ step }) => step).join(" "),
			);
			expect(names).toEqual(STEPS[name as keyof typeof STEPS]);
		}
	});

	it.each(KERNEL_NAMES)("are what %s reports of them", (kernel) => {
		for (const platform of ALL) {
			const { memEncrypt, guest, host } = attributesOf(KERNELS[kernel], platform);
			const reports = reportsEncryption(kernel, platform.name);
			expect([platform.name, memEncrypt, host, guest]).toEqual([
				platform.name,
				reports,
				platform.name === "sme",
				reports && platform.name !== "sme",
			]);
			expect(isConfidentialGuest(KERNELS[kernel], platform)).toBe(isGuest(kernel, platform.name));
		}
	});

	it("are refused by a message that lists them when the name is none of theirs", () => {
		for (const name of ["sev", "", "toString", "__proto__", "SNP"])
			expect(() => platformNamed(name)).toThrow(
				/platform must be one of snp, snp-vtom, tdx, cca, pkvm, s390-pv, sme, arm64, none, not/,
			);
	});
});

describe("a DMA address", () => {
	it("tells private from shared by the platform's bit, and decodes to what it was made from", () => {
		for (const platform of ALL) {
			const { privateBits, privateClear, sharedBits, sharedClear } = addressEncoding(platform);
			for (let i = 0; i < 200; i++) {
				const gpa = random.below(2 ** 20) * 2 ** 24 + random.below(2 ** 24);
				const asPrivate = Number((BigInt(gpa) & ~privateClear) | privateBits);
				const asShared = Number((BigInt(gpa) & ~sharedClear) | sharedBits);
				expect(asPrivate === asShared).toBe(platform.dmaBit === null);
				const form = (of: "private" | "shared") => (platform.dmaBit === null ? null : of);
				expect(decodeAddress(platform, asPrivate)).toEqual({ gpa, form: form("private") });
				expect(decodeAddress(platform, asShared)).toEqual({ gpa, form: form("shared") });
			}
		}
	});

	it("that a device of the engine is given is the one that the platform decodes", async () => {
		for (const platform of ALL) {
			const engine = await Engine.create({ ram: "1M", swiotlb: null });
			engine.ram.convert(0x20000, 0x1000, PageState.Shared);
			const device = engine.addDevice({ trusted: true, ...addressEncoding(platform) });
			const forms = [0x10000, 0x20000].map((gpa) => {
				const decoded = decodeAddress(platform, device.map(gpa, 0x1000, Direction.ToDevice));
				expect(decoded.gpa).toBe(gpa);
				return decoded.form;
			});
			expect(forms).toEqual(platform.dmaBit === null ? [null, null] : ["private", "shared"]);
		}
	});

	it("with the C-bit fails visibly at a mask below the bit, however low the page; vTOM's and TDX's private form passes", async () => {
		for (const [name, passes] of [
			["snp", false],
			["snp-vtom", true],
			["tdx", true],
		] as const) {
			const engine = await Engine.create({ ram: "1M", swiotlb: null });
			const device = engine.addDevice({
				trusted: true,
				...addressEncoding(platformNamed(name)),
				dmaMask: 2n ** 32n - 1n,
			});
			const map = () => device.map(0x10000, 0x1000, Direction.ToDevice);
			if (passes) expect(map()).toBe(0x10000);
			else expect(map).toThrow(/BEYOND_MASK|NO_POOL/);
		}
	});
});

describe("a memory cipher", () => {
	afterEach(() => {
		vi.doUnmock("node:crypto");
		vi.resetModules();
	});

	const ciphers = async () => [await loadCipher(7), seededCipher(7)];

	it("gives back what it encrypted, and is the same for the same seed only", async () => {
		const again = await ciphers();
		const others = [await loadCipher(8), seededCipher(8)];
		for (const [i, cipher] of (await ciphers()).entries()) {
			for (const gpa of [0, 0x1230, 2 ** 32 - 0x20, 2 ** 45 + 0xff0]) {
				const data = random.bytes(0x2010);
				const secret = cipher.encrypt(gpa, data);
				expect(Buffer.compare(secret, data)).not.toBe(0);
				expect(Buffer.compare(cipher.decrypt(gpa, secret), data)).toBe(0);
				expect(Buffer.compare(again[i]?.encrypt(gpa, data) as Uint8Array, secret)).toBe(0);
				expect(Buffer.compare(others[i]?.encrypt(gpa, data) as Uint8Array, secret)).not.toBe(0);
			}
		}
	});

	it("tweaks every 16-byte block by its address: equal plaintext has no equal ciphertext, also above 4 GiB", async () => {
		for (const cipher of await ciphers()) {
			const seen = new Set<string>();
			for (const gpa of [0, 0x1000, 2 ** 32, 2 ** 40]) {
				const secret = Buffer.from(cipher.encrypt(gpa, new Uint8Array(4096)));
				for (let at = 0; at < 4096; at += 16) seen.add(secret.toString("hex", at, at + 16));
			}
			expect(seen.size).toBe(4 * 256);
		}
	});

	it("changes one block when one byte changes, and does not care how a range is cut", async () => {
		const cipher = await loadCipher(7);
		const data = random.bytes(0x3000);
		const whole = cipher.encrypt(0x5000, data);
		for (let i = 0; i < 50; i++) {
			const from = random.below(0x300) * 16;
			const to = from + 16 * (1 + random.below((0x3000 - from) / 16));
			const part = cipher.encrypt(0x5000 + from, data.subarray(from, to));
			expect(Buffer.compare(part, whole.subarray(from, to))).toBe(0);
		}
		const at = random.below(0x3000);
		data[at] = (data[at] as number) ^ 1;
		const changed = cipher.encrypt(0x5000, data);
		const blocks = new Set<number>();
		for (const [i, byte] of changed.entries()) if (byte !== whole[i]) blocks.add(i >> 4);
		expect([...blocks]).toEqual([at >> 4]);
	});

	it("is AES-256-XTS with a page as its data unit", async () => {
		const { createHash, createCipheriv } = await import("node:crypto");
		const key = createHash("sha512").update("coco-dma memory key 7").digest();
		const tweak = Buffer.alloc(16);
		tweak.writeUInt32LE(0x123, 0);
		const page = random.bytes(4096);
		const expected = createCipheriv("aes-256-xts", key, tweak).update(page);
		expect(Buffer.compare((await loadCipher(7)).encrypt(0x123000, page), expected)).toBe(0);
	});

	it("takes whole blocks only", async () => {
		for (const cipher of await ciphers()) {
			expect(() => cipher.encrypt(8, new Uint8Array(16))).toThrow(/whole 16-byte blocks/);
			expect(() => cipher.decrypt(16, new Uint8Array(17))).toThrow(/whole 16-byte blocks/);
		}
	});

	it("that is not there, as in a browser, is one named error", async () => {
		const modules = vi.spyOn(process, "getBuiltinModule").mockReturnValue(undefined);
		try {
			await expect(loadCipher()).rejects.toThrow(/^the host's view of encrypted memory needs AES-XTS of node:crypto/);
			await expect(loadCipher()).rejects.toMatchObject({ name: "CipherUnavailable" });
		} finally {
			modules.mockRestore();
		}
	});
});
