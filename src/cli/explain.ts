import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { directionNamed, type Explanation, explain } from "../coco/guest/explain.ts";
import { Guest } from "../coco/guest/guest.ts";
import { CipherUnavailable, loadCipher, type MemoryCipher } from "../coco/platform/ciphertext.ts";
import { PLATFORMS } from "../coco/platform/platform.ts";
import { DEFAULT_KERNEL, KERNELS, kernelNamed } from "../coco/rules/kernel.ts";
import type { GuestPoolOptions } from "../coco/rules/pool.ts";
import { PageState } from "../memory/ram.ts";
import { environment } from "../node/environment.ts";
import type { ExplainDocument } from "../report/documents.ts";
import { explainReport } from "../report/explain.ts";
import { renderText } from "../report/render/text.ts";
import { Attr, type Gpa } from "../types.ts";
import { Version } from "../vmbus/wire/versions.ts";
import { DEVICE_PRESETS, devicePresetNamed } from "../workload/presets.ts";
import { checkOutputs, writeJson } from "./outputs.ts";
import { mayColor, parseOptions, UsageError } from "./usage.ts";

const POOLS = ["default", "private", "restricted"] as const;

const EXPLAIN_HELP = `Usage: coco-dma explain --platform P [options]

Explains one DMA mapping of a confidential guest: each predicate that the kernel asks, with its value; the pool and its
slots; the address that the device is given; and who can read the bytes before, while and after they are mapped.

Options:
  --platform P       ${Object.keys(PLATFORMS).join(", ")}
  --kernel K         whose rules: ${Object.keys(KERNELS).join(", ")} (default: ${DEFAULT_KERNEL})
  --device D         ${DEVICE_PRESETS.map(({ name }) => name).join(", ")}: masks and alignment (default: nvme)
  --accepted         the device's evidence was accepted, and it runs (TDISP state RUN)
  --offer            as --accepted, for the device of a VMBus channel with confidential ring and external memory
  --gpa A            address of the buffer, 0x.... (default: a page of the guest's)
  --bytes N          its size (default: 4096)
  --dir DIR          TO_DEVICE (default), FROM_DEVICE, BIDIRECTIONAL
  --shared           the buffer's pages were decrypted before, and the map says so (CC_SHARED)
  --mask BITS        width of the device's DMA mask, such as 32
  --non-coherent     the device's DMA is not cache-coherent
  --pool KIND        default; private: accepted devices bounce there; restricted: the device has a restricted pool
  --swiotlb OPT      the kernel's swiotlb= option, such as 32768,4 or force or noforce
  --ram SIZE         RAM of the guest (default: 256M)
  --json FILE|-      the explanation as JSON; "-": JSON alone on standard output
  --help
`;

const TDISP_EVIDENCE = { interfaceReport: Uint8Array.of(1), measurements: Uint8Array.of(1), digest: "01" };

function parseNumber(name: string, text: string | undefined, fallback: number, min: number, max: number): number {
	if (text === undefined) return fallback;
	const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
	if (!(value >= min && value <= max))
		throw new UsageError(`--${name}: expected a whole number from ${min} to ${max}, not "${text}"`);
	return value;
}

/** AES for the host's view; without it the view only says "ciphertext". */
async function cipherIfAny(): Promise<MemoryCipher | undefined> {
	try {
		return await loadCipher();
	} catch (error) {
		if (error instanceof CipherUnavailable) return undefined;
		throw error;
	}
}

function parsePool(text = "default"): readonly GuestPoolOptions[] {
	const kind = POOLS.find((candidate) => candidate === text);
	if (kind === undefined) throw new UsageError(`--pool: expected ${POOLS.join(", ")}, not "${text}"`);
	return kind === "default" ? [] : [{ kind, size: "4M" }];
}

/** Runs `coco-dma explain`. @returns the exit code */
export async function explainCommand(args: readonly string[]): Promise<number> {
	const { values, positionals } = parseOptions(args, {
		platform: { type: "string" },
		kernel: { type: "string" },
		device: { type: "string" },
		accepted: { type: "boolean" },
		offer: { type: "boolean" },
		gpa: { type: "string" },
		bytes: { type: "string" },
		dir: { type: "string" },
		shared: { type: "boolean" },
		mask: { type: "string" },
		"non-coherent": { type: "boolean" },
		pool: { type: "string" },
		swiotlb: { type: "string" },
		ram: { type: "string" },
		json: { type: "string" },
		help: { type: "boolean" },
	});
	if (values.help) {
		process.stdout.write(EXPLAIN_HELP);
		return 0;
	}
	if (positionals.length > 0) throw new UsageError(`unexpected argument "${positionals[0]}"`);
	if (values.platform === undefined)
		throw new UsageError(`--platform: expected one of ${Object.keys(PLATFORMS).join(", ")}`);
	if (values.accepted && values.offer) throw new UsageError("--accepted and --offer exclude each other");
	checkOutputs({ json: values.json });
	const preset = devicePresetNamed(values.device ?? "nvme");
	const maskBits = parseNumber("mask", values.mask, 64, 1, 64);
	const bytes = parseNumber("bytes", values.bytes, 4096, 1, 2 ** 31 - 1);
	const dir = directionNamed(values.dir ?? "TO_DEVICE");
	const cipher = await cipherIfAny();
	const guest = await Guest.create({
		platform: values.platform as keyof typeof PLATFORMS,
		kernel: kernelNamed(values.kernel ?? DEFAULT_KERNEL),
		ram: values.ram ?? "256M",
		pools: parsePool(values.pool),
		...(values.swiotlb === undefined ? {} : { swiotlb: values.swiotlb }),
		...(cipher === undefined ? {} : { cipher }),
	});
	const restricted = guest.pools.find(({ kind }) => kind === "restricted");
	const device = guest.addDevice({
		...preset.dma,
		name: preset.name,
		dmaMask: 2n ** BigInt(maskBits) - 1n,
		coherent: values["non-coherent"] !== true,
		...(restricted === undefined ? {} : { pools: [restricted] }),
		...(values.accepted
			? { tdisp: { evidence: () => TDISP_EVIDENCE, policy: () => ({ accept: true as const }) } }
			: {}),
		...(values.offer
			? {
					offer: {
						flags: { coRingBuffer: true, coExternalMemory: true },
						connection: { confidential: true, version: Version.V6_0 },
					},
				}
			: {}),
	});
	if (device.trust !== null) {
		device.trust.lock();
		device.trust.collectEvidence();
		device.trust.accept();
		device.trust.start();
	}
	const pages = Math.max(1, Math.ceil(bytes / PAGE_SIZE));
	const fallback = values.gpa === undefined ? guest.pages.alloc(pages) : 0;
	if (fallback < 0) throw new UsageError(`--bytes: the guest has no ${bytes} adjacent bytes; give --gpa`);
	const gpa = parseNumber("gpa", values.gpa, fallback, 0, 2 ** 52 - 1);
	if (values.shared) share(guest, gpa, bytes);
	const explanation: Explanation = explain(guest, device, {
		gpa,
		bytes,
		dir,
		attrs: values.shared ? Attr.CcShared : 0,
	});
	if (values.json !== "-")
		process.stdout.write(`${renderText(explainReport(guest, explanation), { color: mayColor() })}\n`);
	if (values.json !== undefined)
		writeJson<ExplainDocument>(values.json, {
			schema: "coco-dma/explain/1",
			command: "explain",
			environment: environment(),
			...explanation,
		});
	return 0;
}

/** Decrypts the pages of a buffer that are not shared yet, as its driver would have done. */
function share(guest: Guest, gpa: Gpa, bytes: number): void {
	for (let page = gpa - (gpa % PAGE_SIZE); page < gpa + bytes; page += PAGE_SIZE) {
		if (guest.engine.ram.pageState(page) !== PageState.Shared)
			guest.converter.convert(page, PAGE_SIZE, PageState.Shared);
	}
}
