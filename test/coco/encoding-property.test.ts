import { describe, expect, it } from "vitest";
import { Guest } from "../../src/coco/guest/guest.ts";
import { decodeAddress } from "../../src/coco/platform/platform.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Attr, Direction } from "../../src/types.ts";
import { defaultPoolShared, isGuest, reachesSharedOnly } from "../helpers/kernel-facts.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { KERNEL_NAMES, MIB, NAMES } from "../helpers/trust-guest.ts";

/** Low memory, some above 4 GiB, and some that 40 bits do not reach. */
const RAM = [0, 2 ** 32, 2 ** 40].map((gpa) => ({ gpa, bytes: 4 * MIB }));
const CASES = NAMES.flatMap((platform) => KERNEL_NAMES.map((kernel) => ({ platform, kernel })));
const MASKS = Array.from({ length: 45 }, (_, i) => 20 + i);
printSeed("encodings");

type Form = "private" | "shared";

/** The rule: SME and SEV-SNP set the C-bit in what is private, a realm its top bit in what is shared, nobody else any. */
function encoded(platform: string, form: Form, gpa: number): bigint {
	const bits: Readonly<Record<string, readonly [Form, bigint]>> = {
		snp: ["private", 1n << 51n],
		sme: ["private", 1n << 47n],
		cca: ["shared", 1n << 47n],
	};
	const [whose, bit] = bits[platform] ?? [form, 0n];
	return BigInt(gpa) | (whose === form ? bit : 0n);
}

const maskOf = (bits: number) => 2n ** BigInt(bits) - 1n;

describe("the DMA addresses of every platform and kernel, for every mask", () => {
	it.each(CASES)(
		"have the form that the rule says, or are refused ($platform, $kernel)",
		async ({ platform, kernel }) => {
			const random = new Random(SEED);
			const guest = await Guest.create({ platform, kernel, ram: RAM, swiotlb: "512,1", maxDevices: 64 });
			const late = kernel === "linux-7.3";
			const { start, bytes: poolBytes } = guest.pools[0]?.pool ?? { start: 0, bytes: 0 };
			const slotForm: Form = defaultPoolShared(kernel, platform) || !late ? "shared" : "private";
			const buffers = [MIB, 2 ** 32 + MIB, 2 ** 40 + 2 * MIB].map((gpa) => ({ gpa, pages: 1 }));
			const met = { direct: 0, bounce: 0, refused: 0 };
			for (const bits of MASKS) {
				const limit = maskOf(bits);
				const coherentBits = random.pick(MASKS);
				const device = guest.addDevice({ dmaMask: limit, coherentDmaMask: maskOf(coherentBits) });
				const sharedOnly = reachesSharedOnly(kernel, platform, maskOf(coherentBits));
				for (const { gpa } of buffers) {
					for (const attrs of [0, Attr.CcShared]) {
						const bytes = random.between(1, 4096);
						const ccShared = late && attrs !== 0;
						const direct = encoded(platform, ccShared ? "shared" : "private", gpa);
						// no mask ends inside the pool
						const bounces = encoded(platform, slotForm, start + poolBytes - 1) <= limit;
						const fits = (address: bigint) => address + BigInt(bytes) - 1n <= limit;
						const goes = fits(direct) && !(late && sharedOnly && !ccShared) && (late || !isGuest(kernel, platform));
						met[goes ? "direct" : bounces ? "bounce" : "refused"]++;
						const dma = device.tryMap(gpa, bytes, Direction.ToDevice, 0, attrs);
						const about = [bits, coherentBits, attrs, gpa];
						if (!goes && !bounces) {
							expect([...about, statusName(dma)]).toEqual([...about, "SLOTS_BEYOND_MASK"]);
							continue;
						}
						const place = decodeAddress(guest.platform, dma).gpa;
						const expected = goes ? direct : encoded(platform, slotForm, place);
						expect([...about, BigInt(dma)]).toEqual([...about, expected]);
						if (goes) expect(place).toBe(gpa);
						else expect(place >= start && place < start + poolBytes).toBe(true);
						device.unmap(dma, bytes, Direction.ToDevice);
					}
				}
				const got = device.allocCoherent(4096);
				if (!got.ok) continue;
				const form = sharedOnly ? "shared" : "private";
				expect(`0x${got.dma.toString(16)}`).toBe(`0x${encoded(platform, form, got.gpa).toString(16)}`);
				expect(BigInt(got.dma) + 4095n <= maskOf(coherentBits)).toBe(true);
				if (guest.platform.hostRead !== "plain")
					expect(guest.engine.ram.pageState(got.gpa)).toBe(sharedOnly ? PageState.Shared : PageState.Private);
				device.freeCoherent(got);
			}
			expect(met.refused).toBeGreaterThan(0);
			expect(met.bounce + met.direct).toBeGreaterThan(100);
		},
	);
});
