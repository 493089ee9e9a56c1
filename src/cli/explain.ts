import { directionNamed } from "../coco/guest/explain.ts";
import { CipherUnavailable, loadCipher, type MemoryCipher } from "../coco/platform/ciphertext.ts";
import { PLATFORMS, platformNamed } from "../coco/platform/platform.ts";
import { DEFAULT_KERNEL, KERNELS, kernelNamed } from "../coco/rules/kernel.ts";
import { environment } from "../node/environment.ts";
import { loadPolicy } from "../node/policy-file.ts";
import type { ExplainDocument } from "../report/documents.ts";
import { explainReport } from "../report/explain.ts";
import { renderText } from "../report/render/text.ts";
import { EXPLAINED_POOLS, type ExplainOptions, explainMapping, isRefused } from "../study/explain.ts";
import { DEVICE_PRESETS, devicePresetNamed } from "../workload/presets.ts";
import { checkOutputs, writeJson } from "./outputs.ts";
import { parseSize } from "./sizes.ts";
import { mayColor, parseOptions, UsageError } from "./usage.ts";

const EXPLAIN_HELP = `Usage: coco-dma explain --platform P [options]

Explains one DMA mapping of a confidential guest: each predicate that the kernel asks, with its value; the pool and its
slots; the address that the device is given; who can read the bytes before, while and after they are mapped; and why it is
refused, if it is: what the caller gets, what Linux logs, each rule that is broken, what would fit and what mends it.
With --policy: what the kernel does alone, what it does under the proposal, and each predicate's answer in both.
Exit code: 1 if the mapping (or the list, or the coherent buffer) is refused or ends the kernel, 0 if not, 2 for a wrong call.

Options:
  --platform P       ${Object.keys(PLATFORMS).join(", ")}
  --kernel K         whose rules: ${Object.keys(KERNELS).join(", ")} (default: the policy's, or ${DEFAULT_KERNEL})
  --policy P         a preset with modifiers, such as cc-accepted+force, or a file of your own, such as ./mine.ts (it is run)
  --device D         ${DEVICE_PRESETS.map(({ name }) => name).join(", ")}: masks and alignment (default: nvme)
  --accepted         the device's evidence was accepted, and it runs (TDISP state RUN)
  --offer            as --accepted, for the device of a VMBus channel with confidential ring and external memory
  --gpa A            address of the buffer, 0x.... (default: a page of the guest's)
  --bytes SIZE       its size, such as 4K (default: 4096)
  --dir DIR          TO_DEVICE (default), FROM_DEVICE, BIDIRECTIONAL
  --sg SIZES         a list of segments too, such as 4K,64K,512: each on pages of its own, mapped whole or not at all
  --coherent         coherent memory of that size too
  --atomic           with --coherent: its caller may not sleep (GFP_ATOMIC)
  --shared           the buffer's pages were decrypted before, and the map says so (CC_SHARED)
  --mask BITS        width of the device's DMA mask, such as 32 (default: the device's)
  --non-coherent     the device's DMA is not cache-coherent
  --pool KIND        default; private: accepted devices bounce there; restricted: the device has a restricted pool
  --swiotlb OPT      the kernel's swiotlb= option, such as 32768,4 or force or noforce
  --ram SIZE         RAM of the guest, such as 64G: it is address space, and takes no memory (default: 256M)
  --json FILE|-      the explanation as JSON; "-": JSON alone on standard output
  --help
`;

const MAX_MAPPING_BYTES = 2 ** 31 - 1;

function parseNumber(name: string, text: string | undefined, min: number, max: number): number | undefined {
	if (text === undefined) return undefined;
	const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
	if (!(value >= min && value <= max))
		throw new UsageError(`--${name}: expected a whole number from ${min} to ${max}, not "${text}"`);
	return value;
}

/** Bytes of one mapping: a size, or a hexadecimal number of bytes. */
function parseMappingBytes(name: string, text: string | undefined): number | undefined {
	const bytes = text !== undefined && /^0x[0-9a-f]+$/i.test(text) ? Number(text) : parseSize(name, text);
	if (bytes !== undefined && !(bytes >= 1 && bytes <= MAX_MAPPING_BYTES))
		throw new UsageError(`--${name}: expected 1 to ${MAX_MAPPING_BYTES} bytes, not "${text}"`);
	return bytes;
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

function parsePool(text = "default"): (typeof EXPLAINED_POOLS)[number] {
	const kind = EXPLAINED_POOLS.find((candidate) => candidate === text);
	if (kind === undefined) throw new UsageError(`--pool: expected ${EXPLAINED_POOLS.join(", ")}, not "${text}"`);
	return kind;
}

/** The options that were given. */
function given<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
	const entries = Object.entries(options).filter(([, value]) => value !== undefined);
	return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

/** Runs `coco-dma explain`. @returns the exit code */
export async function explainCommand(args: readonly string[]): Promise<number> {
	const { values, positionals } = parseOptions(args, {
		platform: { type: "string" },
		kernel: { type: "string" },
		policy: { type: "string" },
		device: { type: "string" },
		accepted: { type: "boolean" },
		offer: { type: "boolean" },
		gpa: { type: "string" },
		bytes: { type: "string" },
		dir: { type: "string" },
		sg: { type: "string" },
		coherent: { type: "boolean" },
		atomic: { type: "boolean" },
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
	if (values.atomic && !values.coherent) throw new UsageError("--atomic goes with --coherent: no mapping sleeps");
	checkOutputs({ json: values.json });
	const options: ExplainOptions = {
		platform: platformNamed(values.platform).name as keyof typeof PLATFORMS,
		device: devicePresetNamed(values.device ?? "nvme").name,
		pool: parsePool(values.pool),
		cacheCoherent: values["non-coherent"] !== true,
		isShared: values.shared === true,
		dir: directionNamed(values.dir ?? "TO_DEVICE"),
		...given({
			kernel: values.kernel === undefined ? undefined : (kernelNamed(values.kernel).name as keyof typeof KERNELS),
			trust: values.accepted ? ("tdisp" as const) : values.offer ? ("offer" as const) : undefined,
			maskBits: parseNumber("mask", values.mask, 1, 64),
			bytes: parseMappingBytes("bytes", values.bytes),
			gpa: parseNumber("gpa", values.gpa, 0, 2 ** 52 - 1),
			segments: values.sg?.split(",").map((size) => parseMappingBytes("sg", size) as number),
			coherent: values.coherent ? { atomic: values.atomic === true } : undefined,
			swiotlb: values.swiotlb,
			ramBytes: parseSize("ram", values.ram),
			cipher: await cipherIfAny(),
			policy: values.policy === undefined ? undefined : await loadPolicy(values.policy),
		}),
	} as ExplainOptions;
	const explained = await explainMapping(options);
	if (values.json !== "-") process.stdout.write(`${renderText(explainReport(explained), { color: mayColor() })}\n`);
	if (values.json !== undefined)
		writeJson<ExplainDocument>(values.json, { ...explained, command: "explain", environment: environment() });
	return isRefused(explained) ? 1 : 0;
}
