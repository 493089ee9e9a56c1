import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { coco, temporaryFolder } from "../helpers/cli.ts";

const FIXED = ["--platform", "cca", "--mask", "32", "--bytes", "5000", "--gpa", "0x3000"];
const FIXED_TEXT = `nvme on Arm CCA (cca), rules of linux-6.12
map(gpa 0x3000, 5000 bytes, TO_DEVICE) on CPU 0

 1  device_cc_accepted(dev)                 false  no TDISP interface, no VMBus offer
 2  is_swiotlb_force_bounce(dev)            true   confidential guest: SWIOTLB_FORCE
 3  force_dma_unencrypted(dev)              true   guest memory encryption
 4  dma_capable(dev, bounce address, size)  false  end 0x80000c001387 > mask 0xffffffff; the bytes were copied into the slots before, as in Linux

refused after a copy into pool "default", 3 slots of 2 KiB, tlb_addr 0xc000000 in slot 0: SLOTS_BEYOND_MASK

when    bytes   pages    guest  paravisor  host   device
before  buffer  private  plain  plain      fault  -
after   buffer  private  plain  plain      fault  -
after   slots   shared   plain  plain      plain  -

The host reads bytes of a private buffer.
`;

/** What the command prints that succeeds. */
async function explained(...args: string[]): Promise<string> {
	const { code, out, err } = await coco("explain", ...args);
	expect([code, err]).toEqual([0, ""]);
	return out;
}

describe("coco-dma explain", () => {
	it("prints every predicate, what came of it and who can read the bytes", async () => {
		expect(await explained(...FIXED)).toBe(FIXED_TEXT);
	});

	it.each([
		[["--platform", "tdx", "--accepted"], "bounce: pool", "host reads bytes of a private buffer"],
		[["--platform", "tdx", "--accepted", "--kernel", "linux-7.3"], "direct: the device", "host reads no byte"],
		[["--platform", "snp", "--offer", "--kernel", "linux-7.3"], "direct: the device", "host reads no byte"],
		[["--platform", "cca", "--kernel", "linux-7.3", "--shared"], "direct: the device", "lies on shared pages"],
		[
			["--platform", "tdx", "--kernel", "linux-7.3", "--accepted", "--swiotlb", "force"],
			"refused: POOL_STATE",
			"host reads no byte",
		],
		[
			["--platform", "tdx", "--kernel", "linux-7.3", "--accepted", "--pool", "private", "--swiotlb", "force"],
			'bounce: pool "private"',
			"host reads no byte",
		],
		[
			["--platform", "pkvm", "--kernel", "linux-7.3", "--pool", "restricted", "--dir", "from_device"],
			'bounce: pool "restricted"',
			"host reads bytes of a private buffer",
		],
		[
			["--platform", "none", "--non-coherent", "--bytes", "8", "--dir", "BIDIRECTIONAL"],
			"bounce: pool",
			"Nothing is private on this platform",
		],
	])("%j: %s, and the %s", async (args, outcome, verdict) => {
		const out = await explained(...args);
		expect(out.split("\n").filter((line) => line.startsWith(outcome))).toHaveLength(1);
		expect(out.trimEnd().split("\n").at(-1)).toContain(verdict);
	});

	it("writes the same as JSON, alone on standard output or beside the text", async () => {
		const alone = JSON.parse(await explained(...FIXED, "--json", "-"));
		expect(alone).toMatchObject({
			command: "explain",
			environment: { node: process.version },
			platform: "cca",
			kernel: "linux-6.12",
			request: { gpa: 0x3000, bytes: 5000, dir: "TO_DEVICE", cpu: 0 },
			decision: "bounce",
			status: "SLOTS_BEYOND_MASK",
			dma: null,
			bounce: { pool: "default", tlb: 0xc000000, firstSlot: 0, slots: 3, transient: false },
		});
		expect(alone.steps).toHaveLength(4);
		expect(alone.readers.map(({ host }: { host: string }) => host)).toEqual(["fault", "fault", "plain"]);
		const path = join(temporaryFolder(), "explain.json");
		expect(await explained(...FIXED, "--json", path)).toBe(FIXED_TEXT);
		expect(JSON.parse(readFileSync(path, "utf8")).readers).toEqual(alone.readers);
	});

	it("has help that names every option", async () => {
		const help = await explained("--help");
		for (const name of ["platform", "kernel", "device", "accepted", "offer", "gpa", "bytes", "dir", "shared", "mask"])
			expect(help).toContain(`--${name} `);
		for (const name of ["non-coherent", "pool", "swiotlb", "ram", "json"]) expect(help).toContain(`--${name} `);
	});

	it.each([
		[[], "--platform: expected one of snp, snp-vtom, tdx, cca, pkvm, none"],
		[["--platform", "mars"], 'platform must be one of snp, snp-vtom, tdx, cca, pkvm, none, not "mars"'],
		[["--kernel", "linux-5"], 'kernel must be one of linux-6.12, linux-7.3, not "linux-5"'],
		[["--device", "floppy"], 'device: expected one of nvme, virtio-blk, storvsc, ahci, not "floppy"'],
		[["--bytes", "0"], '--bytes: expected a whole number from 1 to 2147483647, not "0"'],
		[["--bytes="], '--bytes: expected a whole number from 1 to 2147483647, not ""'],
		[["--bytes", "20000000"], "--bytes: the guest has no 20000000 adjacent bytes; give --gpa"],
		[["--gpa", "1.5"], '--gpa: expected a whole number from 0 to 4503599627370495, not "1.5"'],
		[["--gpa", "0x10000000"], "OUTSIDE_RAM: the range is not in RAM"],
		[["--gpa", "0xf000000", "--shared"], "POOL_PAGES: the range belongs to a bounce pool"],
		[["--dir", "UP"], 'direction must be one of BIDIRECTIONAL, TO_DEVICE, FROM_DEVICE, not "UP"'],
		[["--mask", "65"], '--mask: expected a whole number from 1 to 64, not "65"'],
		[["--mask", "0"], '--mask: expected a whole number from 1 to 64, not "0"'],
		[["--pool", "bus"], '--pool: expected default, private, restricted, not "bus"'],
		[["--swiotlb", "lots"], 'swiotlb=lots: expected [<slabs>][,<areas>][,force|noforce], not "lots"'],
		[["--ram", "3"], "ram: 3 is no multiple of 4096 bytes above 0"],
		[["--ram", "32M"], "a pool of 67108864 bytes fits into no stretch of RAM"],
		[["--accepted", "--offer"], "--accepted and --offer exclude each other"],
		[["--json", "/no/such/x.json"], "/no/such/x.json: cannot be written"],
		[["--frobnicate"], "Unknown option '--frobnicate'"],
		[["more"], 'unexpected argument "more"'],
	])("refuses %j in one line", async (args, message) => {
		const given = args.length === 0 || args.includes("--platform") ? args : ["--platform", "tdx", ...args];
		const { code, out, err } = await coco("explain", ...given);
		expect([code, out]).toEqual([2, ""]);
		expect(err).toMatch(/^coco-dma explain: [^\n]+\n$/);
		expect(err).toContain(message);
	});

	it("refuses a private pool where nothing is private", async () => {
		expect(await coco("explain", "--platform", "none", "--pool", "private")).toMatchObject({
			code: 2,
			out: "",
			err: expect.stringMatching(/^coco-dma explain: private pool .* on none: NO_PRIVATE_MEMORY: .*\n$/),
		});
	});
});
