import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { coco, temporaryFolder } from "../helpers/cli.ts";

const FIXED = ["--platform", "cca", "--mask", "32", "--bytes", "5000", "--gpa", "0x3000"];
const FIXED_TEXT = `nvme on Arm CCA (cca), rules of linux-6.12
map(gpa 0x3000, 5000 bytes, TO_DEVICE) on CPU 0

 1  device_cc_accepted(dev)                 false  no TDISP interface, no VMBus offer
 2  is_swiotlb_force_bounce(dev)            true   confidential guest: SWIOTLB_FORCE
 3  force_dma_unencrypted(dev)              true   confidential guest
 4  slots <= IO_TLB_SEGSIZE                 true   5000 bytes = 3 slots <= 128
 5  dma_capable(dev, bounce address, size)  false  end 0x80000c001387 > mask 0xffffffff; the bytes were copied into the slots before, as in Linux

refused after a copy into pool "default", 3 slots of 2 KiB, tlb_addr 0xc000000 in slot 0: SLOTS_BEYOND_MASK

caller  DMA_MAPPING_ERROR (dma_mapping_error: -ENOMEM); dma_map_sgtable() answers -EIO
log     TLB-OVERFLOW: swiotlb addr 0x000080000c000000+5000 overflow (mask ffffffff, bus limit 0).
broken  dma_capable(): the slots end at 0x80000c001387 > mask 0xffffffff, 0x800000000000 of it by the encoding
fits    nothing at this address as things stand
remedy  a DMA mask of 48 bits

when    bytes   pages    guest  paravisor  host   device
before  buffer  private  plain  plain      fault  -
after   buffer  private  plain  plain      fault  -
after   slots   shared   plain  plain      plain  -

The host reads bytes of a private buffer.
`;

/** What the command prints of a mapping that is made. */
async function explained(...args: string[]): Promise<string> {
	const { code, out, err } = await coco("explain", ...args);
	expect([code, err]).toEqual([0, ""]);
	return out;
}

/** What the command prints of a mapping that is refused. */
async function refused(...args: string[]): Promise<string> {
	const { code, out, err } = await coco("explain", ...args);
	expect([code, err]).toEqual([1, ""]);
	return out;
}

describe("coco-dma explain", () => {
	it("prints every predicate, what came of it and who can read the bytes", async () => {
		expect(await refused(...FIXED)).toBe(FIXED_TEXT);
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
		const out = await (outcome.startsWith("refused") ? refused : explained)(...args);
		expect(out.split("\n").filter((line) => line.startsWith(outcome))).toHaveLength(1);
		expect(out.trimEnd().split("\n").at(-1)).toContain(verdict);
	});

	it("writes the same as JSON, alone on standard output or beside the text", async () => {
		const alone = JSON.parse(await refused(...FIXED, "--json", "-"));
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
		expect(alone.steps).toHaveLength(5);
		expect(alone.refusal.message).toMatchObject({ class: "TLB-OVERFLOW", dma: 0x80000c000000 });
		expect([alone.policy, alone.without, alone.list, alone.coherent]).toEqual([null, null, null, null]);
		expect(alone.readers.map(({ host }: { host: string }) => host)).toEqual(["fault", "fault", "plain"]);
		const path = join(temporaryFolder(), "explain.json");
		expect(await refused(...FIXED, "--json", path)).toBe(FIXED_TEXT);
		expect(JSON.parse(readFileSync(path, "utf8")).readers).toEqual(alone.readers);
	});

	it("says of more than 128 slots how many, what Linux logs, what fits and what mends it", async () => {
		const out = await refused("--platform", "snp", "--device", "nvme", "--gpa", "0x1000200", "--bytes", "256K");
		for (const line of [
			"slots <= IO_TLB_SEGSIZE       false  offset 0x200 + 262144 bytes = 129 slots > 128",
			"swiotlb buffer is full (sz: 262656 bytes), total 32768 (slots), used 0 (slots)",
			"261,632 bytes at this address as things stand",
			"258,048 bytes at any address (dma_max_mapping_size)",
			"map at most 258,048 bytes at once",
		])
			expect(out).toContain(line);
	});

	it("names every rule that fails, and a way out of each, in a guest whose RAM takes no memory", async () => {
		const high = ["--platform", "none", "--mask", "32", "--ram", "64G", "--gpa", "0x101000000"];
		const over = await refused(...high, "--bytes", "512K");
		expect(over).toContain("the buffer ends at 0x10107ffff > mask 0xffffffff");
		expect(over).toContain("IO_TLB_SEGSIZE: 524,288 bytes = 256 slots > 128");
		expect(over).toMatch(/remedy +a buffer below 0x100000000, or a DMA mask of 33 bits\nor +map at most 258,048 bytes/);
		const none = await refused(...high, "--swiotlb", "noforce");
		expect(none).toContain("DMA-OVERFLOW: DMA addr 0x0000000101000000+4096 overflow (mask ffffffff, bus limit 0).");
		expect(none).toContain("boot without swiotlb=noforce");
	});

	it("explains a proposal beside its kernel alone: predicates, mechanism, list, coherent memory, what the host sees", async () => {
		const asked = ["--platform", "snp", "--accepted", "--policy", "cc-accepted+strict+force"];
		const more = ["--coherent", "--atomic", "--sg", "4K,64K,512"];
		const out = await refused(...asked, ...more);
		expect(out).toMatch(/is_swiotlb_force_bounce\(dev\) +false +true/);
		expect(out).toMatch(/mechanism +bounce +refuse/);
		expect(out).toContain("linux-7.3 alone: direct. The host reads no byte of the buffer. The list: mapped.");
		expect(out).toContain("refused: policy cc-accepted+strict+force has refuse in place of a bounce");
		expect(out).not.toContain("NO_POOL:");
		const json = JSON.parse(await refused(...asked, ...more, "--json", "-"));
		expect(json.without.list.segments.map(({ decision }: { decision: string }) => decision)).toEqual([
			"direct",
			"direct",
			"direct",
		]);
		expect(json.list.segments.map(({ decision }: { decision: string }) => decision)).toEqual([
			"refused",
			"not asked",
			"not asked",
		]);
		expect(json.without.coherent.request).toEqual({ bytes: 4096, atomic: true });
		expect(json.predicates.map(({ name, value }: { name: string; value: boolean }) => [name, value])).toContainEqual([
			"forceBounce",
			true,
		]);
	});

	it("tells that a proposal lays open what its kernel does not", async () => {
		const out = await explained("--platform", "snp", "--accepted", "--policy", "linux-7.3+force");
		expect(out).toContain("linux-7.3 alone: direct. The host reads no byte of the buffer.");
		expect(out).toContain("linux-7.3+force: bounce. The host reads bytes of a private buffer.");
		const open = await explained("--platform", "tdx", "--policy", "linux-7.3", "--coherent", "--atomic");
		expect(open).toContain("from an atomic pool");
		expect(open).toMatch(/mapped {2}buffer {2}shared/);
	});

	it("has help that names every option", async () => {
		const help = await explained("--help");
		for (const name of ["platform", "kernel", "device", "accepted", "offer", "gpa", "bytes", "dir", "shared", "mask"])
			expect(help).toContain(`--${name} `);
		for (const name of ["non-coherent", "pool", "swiotlb", "ram", "json", "policy", "sg", "coherent", "atomic"])
			expect(help).toContain(`--${name} `);
	});

	it.each([
		[[], "--platform: expected one of snp, snp-vtom, tdx, cca, pkvm, s390-pv, sme, arm64, none"],
		[
			["--platform", "mars"],
			'platform must be one of snp, snp-vtom, tdx, cca, pkvm, s390-pv, sme, arm64, none, not "mars"',
		],
		[["--kernel", "linux-5"], 'kernel must be one of linux-6.12, linux-7.3, not "linux-5"'],
		[["--device", "floppy"], 'device: expected one of nvme, virtio-blk, storvsc, ahci, not "floppy"'],
		[["--bytes", "0"], '--bytes: expected 1 to 2147483647 bytes, not "0"'],
		[["--bytes="], '--bytes: expected a size such as 4096, 64K or 1.5G, not ""'],
		[["--sg", "4K,"], '--sg: expected a size such as 4096, 64K or 1.5G, not ""'],
		[["--atomic"], "--atomic goes with --coherent: no mapping sleeps"],
		[["--policy", "nobody"], "nobody"],
		[
			["--policy", "cc-accepted", "--kernel", "linux-6.12"],
			"kernel: policy cc-accepted changes the rules of linux-7.3",
		],
		[["--bytes", "20000000"], "bytes: the guest has no 19.1 MiB of adjacent pages; give a gpa"],
		[["--gpa", "1.5"], '--gpa: expected a whole number from 0 to 4503599627370495, not "1.5"'],
		[["--gpa", "0x10000000"], "OUTSIDE_RAM: the range is not in RAM"],
		[["--gpa", "0xf000000", "--shared"], "POOL_PAGES: the range belongs to a bounce pool"],
		[["--dir", "UP"], 'direction must be one of BIDIRECTIONAL, TO_DEVICE, FROM_DEVICE, not "UP"'],
		[["--mask", "65"], '--mask: expected a whole number from 1 to 64, not "65"'],
		[["--mask", "0"], '--mask: expected a whole number from 1 to 64, not "0"'],
		[["--pool", "bus"], '--pool: expected default, private, restricted, not "bus"'],
		[["--swiotlb", "lots"], 'swiotlb=lots: expected [<slabs>][,<areas>][,force|noforce][,track_hiwater], not "lots"'],
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
