/** One mapping explained, in a guest made for it: by the kernel's rules alone, and under a policy beside that. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { formatBytes, parseBytes } from "../bytes.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import { type Explanation, explain } from "../coco/guest/explain.ts";
import {
	type CoherentExplanation,
	explainCoherent,
	explainList,
	type ListExplanation,
	segmentStride,
} from "../coco/guest/explain-others.ts";
import { Guest } from "../coco/guest/guest.ts";
import { atomicPoolBytes } from "../coco/memory/atomic.ts";
import type { Hazard } from "../coco/memory/hazard.ts";
import type { MemoryCipher } from "../coco/platform/ciphertext.ts";
import { type PlatformName, platformNamed } from "../coco/platform/platform.ts";
import { attributesOf } from "../coco/rules/attributes.ts";
import type { PredicateReply } from "../coco/rules/decision.ts";
import { DEFAULT_KERNEL, type KernelName, kernelNamed } from "../coco/rules/kernel.ts";
import type { Mechanism } from "../coco/rules/policy.ts";
import type { GuestPoolOptions } from "../coco/rules/pool.ts";
import { PageState } from "../memory/ram.ts";
import { FOUR_GIB, LOW_RAM_BYTES, type RamStretch, ramStretches } from "../memory/stretches.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { parseSwiotlbOption, poolSize } from "../swiotlb/sizing.ts";
import { Attr, Direction, type Gpa } from "../types.ts";
import { Version } from "../vmbus/wire/versions.ts";
import { devicePresetNamed } from "../workload/presets.ts";
import { headerOf, type PolicyHeader } from "./matrix.ts";
import { policyOn } from "./stage.ts";
import { DEFAULT_DEVICE, type PolicyChoice, setupFrom } from "./subject.ts";

/** Pools that a guest may have beside its default one. */
export const EXPLAINED_POOLS = ["default", "private", "restricted"] as const;

export interface ExplainOptions {
	readonly platform: PlatformName;
	/** Whose rules. Default: the policy's, or DEFAULT_KERNEL. */
	readonly kernel?: KernelName;
	/** A proposal to explain beside its kernel alone. Default: none. */
	readonly policy?: PolicyChoice["policy"];
	/** A device preset's name. Default "nvme". */
	readonly device?: string;
	/** What speaks for the device: its TDISP interface runs, accepted; or its VMBus offer. Default: nothing. */
	readonly trust?: "tdisp" | "offer";
	/** Width of its DMA mask, 1 to 64. Default: the preset's. */
	readonly maskBits?: number;
	/** Whether its DMA is cache-coherent. Default true. */
	readonly cacheCoherent?: boolean;
	/** Which pool serves it. private: accepted devices alone. Default "default". */
	readonly pool?: (typeof EXPLAINED_POOLS)[number];
	/** Linux's `swiotlb=` option. */
	readonly swiotlb?: string;
	/** RAM of the guest (bytes): it is address space, and takes no memory. Default 256 MiB. */
	readonly ramBytes?: number;
	/** Where the buffer lies. Default: pages of the guest's allocator. */
	readonly gpa?: Gpa;
	/** 1 to 2^31 - 1. Default 4096. */
	readonly bytes?: number;
	/** Default TO_DEVICE. */
	readonly dir?: Direction;
	/** Whether the buffer's pages were decrypted before, and the map says so (CC_SHARED). Default false. */
	readonly isShared?: boolean;
	/** Explains coherent memory of that size too; atomic: where the caller may not sleep. Default: none. */
	readonly coherent?: { readonly atomic: boolean };
	/** Sizes of a list's segments, each on pages of its own: explained too. Default: none. */
	readonly segments?: readonly number[];
	/** The guest's memory key. Default: contents scramble. */
	readonly cipher?: MemoryCipher;
}

/** What one set of rules makes of it: the mapping, and the rest that was asked for. */
export interface ExplainedUse extends Explanation {
	/** Null: the kernel's rules alone. */
	readonly policy: PolicyHeader | null;
	/** Every predicate's answer, whether or not this mapping asks it. */
	readonly predicates: readonly PredicateReply[];
	/** What becomes of a buffer that may not be mapped as it is. */
	readonly mechanism: Mechanism;
	readonly list: ListExplanation | null;
	readonly coherent: CoherentExplanation | null;
	/** What the kernel did meanwhile that it may not do. */
	readonly hazards: readonly Hazard[];
}

export interface ExplainReport extends ExplainedUse {
	readonly schema: "coco-dma/explain/1";
	/** The same by the kernel's rules alone; null: there is no policy. */
	readonly without: ExplainedUse | null;
}

/** A guest of so much RAM is held whole. */
const HELD_WHOLE_BYTES = 2 ** 30;
/** Held at the bottom of RAM and from 4 GiB on, for zones and masks; and below the pools, for buffers (bytes). */
const ZONE_BYTES = 32 * 2 ** 20;
const DEFAULT_RAM_BYTES = 256 * 2 ** 20;
const RESERVED_POOL = "4M";
const EVIDENCE = { interfaceReport: Uint8Array.of(1), measurements: Uint8Array.of(1), digest: "01" };

/**
 * Explains one mapping of a guest.
 * @throws RangeError that names the option and what it may be; DmaError for a range that is no usable RAM, or a pool's; TrustError
 *   for an offer or a pool that the platform cannot have
 */
export async function explainMapping(options: ExplainOptions): Promise<ExplainReport> {
	const schema = "coco-dma/explain/1" as const;
	if (options.policy === undefined)
		return { schema, ...(await explainUse(options, null, options.kernel)), without: null };
	const setup = await setupFrom(options.policy);
	const { kernel } = setup.policy;
	if (options.kernel !== undefined && options.kernel !== kernel)
		throw new RangeError(`kernel: policy ${setup.name} changes the rules of ${kernel}, not of ${options.kernel}`);
	const without = await explainUse(options, null, kernel);
	return { schema, ...(await explainUse(options, setup, kernel)), without };
}

/** Whether anything that was asked for is refused, or ends the kernel. */
export function isRefused({ decision, status, list, coherent }: ExplainedUse): boolean {
	const listed = list !== null && (list.status !== null || list.crash !== null);
	return decision === "crash" || status !== null || listed || (coherent !== null && coherent.buffer === null);
}

async function explainUse(
	options: ExplainOptions,
	setup: PolicySetup | null,
	kernel?: KernelName,
): Promise<ExplainedUse> {
	const { bytes = PAGE_SIZE, dir = Direction.ToDevice, isShared = false, coherent, segments } = options;
	const guest = await makeGuest(options, setup, kernel);
	const device = addDevice(guest, options, setup);
	const gpa = options.gpa ?? takePages(guest, bytes, "bytes");
	if (isShared) shareRange(guest, gpa, bytes);
	const attrs = isShared ? Attr.CcShared : 0;
	const mapping = explain(guest, device, { gpa, bytes, dir, attrs });
	return {
		...mapping,
		policy: setup === null ? null : headerOf(setup),
		predicates: device.replies,
		mechanism: device.mechanism,
		list: segments === undefined ? null : explainList(guest, device, placeList(guest, segments, isShared), dir, attrs),
		coherent: coherent === undefined ? null : explainCoherent(guest, device, { bytes, atomic: coherent.atomic }),
		hazards: guest.hazards,
	};
}

async function makeGuest(options: ExplainOptions, setup: PolicySetup | null, kernel?: KernelName): Promise<Guest> {
	const { swiotlb, cipher, ramBytes = DEFAULT_RAM_BYTES, pool = "default" } = options;
	const platform = platformNamed(options.platform);
	const own: readonly GuestPoolOptions[] = pool === "default" ? [] : [{ kind: pool, size: RESERVED_POOL }];
	const policy = setup === null ? undefined : { ...policyOn(platform, setup, {}), name: setup.name };
	const { force = false, zeroOnFree = false, keepPresent = false } = setup?.guest ?? {};
	const forced = force ? [...(swiotlb === undefined || swiotlb === "" ? [] : [swiotlb]), "force"].join(",") : swiotlb;
	const parsed = parseSwiotlbOption(forced ?? "");
	const size =
		parsed.force === false
			? null
			: poolSize({
					cpus: 1,
					coco: attributesOf(kernelNamed(kernel ?? DEFAULT_KERNEL), platform).guest,
					ramBytes,
					...parsed,
				});
	const reserved = [...own, ...(policy?.pools ?? [])].reduce((sum, one) => sum + parseBytes(one.size), 0);
	const pools = (size?.slabs ?? 0) * IO_TLB_SIZE + reserved;
	return Guest.create({
		platform,
		kernel: kernelNamed(kernel ?? DEFAULT_KERNEL),
		ram: heldStretches(options, ramBytes, pools + 3 * atomicPoolBytes(ramBytes)),
		ramBytes,
		pools: own,
		zeroOnFree,
		keepPresent: keepPresent && platform.conversion.steps.toShared.some(({ step }) => step === "unmap"),
		...(policy === undefined ? {} : { policy }),
		...(forced === undefined ? {} : { swiotlb: forced }),
		...(cipher === undefined ? {} : { cipher }),
	});
}

/** The part of RAM that is looked at: a large guest is held where its pools, its buffers and its zones lie. */
function heldStretches(options: ExplainOptions, ramBytes: number, poolsBytes: number): readonly RamStretch[] {
	const nominal = ramStretches(ramBytes);
	if (ramBytes <= HELD_WHOLE_BYTES) return nominal;
	const { gpa, bytes = PAGE_SIZE, segments = [] } = options;
	const buffers = segments.reduce((sum, one) => sum + segmentStride(one), 4 * bytes) + ZONE_BYTES;
	const lowEnd = Math.min(ramBytes, LOW_RAM_BYTES);
	const wanted = [
		{ from: 0, end: ZONE_BYTES },
		{ from: lowEnd - poolsBytes - buffers, end: lowEnd },
		{ from: FOUR_GIB, end: FOUR_GIB + buffers },
		...(gpa === undefined ? [] : [{ from: gpa, end: gpa + bytes }]),
	].map(({ from, end }) => ({
		from: Math.max(0, Math.floor(from / PAGE_SIZE) * PAGE_SIZE),
		end: Math.ceil(end / PAGE_SIZE) * PAGE_SIZE,
	}));
	const held = nominal.flatMap((stretch) => {
		const limit = stretch.gpa + stretch.bytes;
		return wanted
			.map(({ from, end }) => ({ from: Math.max(from, stretch.gpa), end: Math.min(end, limit) }))
			.filter(({ from, end }) => from < end);
	});
	const merged: { from: number; end: number }[] = [];
	for (const { from, end } of held.sort((a, b) => a.from - b.from)) {
		const last = merged.at(-1);
		if (last !== undefined && from <= last.end) last.end = Math.max(last.end, end);
		else merged.push({ from, end });
	}
	return merged.map(({ from, end }) => ({ gpa: from, bytes: end - from }));
}

function addDevice(guest: Guest, options: ExplainOptions, setup: PolicySetup | null): GuestDevice {
	const { trust, maskBits, cacheCoherent = true } = options;
	const preset = devicePresetNamed(options.device ?? DEFAULT_DEVICE);
	const restricted = guest.pools.find(({ restricted: is }) => is);
	const changed = setup?.device ?? {};
	const byTdisp = trust === "tdisp" || changed.accepted === true;
	const confidential = setup === null || setup.connection === "confidential";
	const device = guest.addDevice({
		...preset.dma,
		name: preset.name,
		...(maskBits === undefined ? {} : { dmaMask: 2n ** BigInt(maskBits) - 1n }),
		...(changed.dmaMask === undefined ? {} : { dmaMask: changed.dmaMask }),
		coherent: changed.coherent ?? cacheCoherent,
		...(restricted === undefined ? {} : { pools: [restricted] }),
		...(byTdisp ? { tdisp: { evidence: () => EVIDENCE, policy: () => ({ accept: true as const }) } } : {}),
		...(trust === "offer"
			? {
					offer: {
						flags: { coRingBuffer: confidential, coExternalMemory: confidential },
						connection: { confidential, version: Version.V6_0 },
					},
				}
			: {}),
	});
	device.trust?.lock();
	device.trust?.collectEvidence();
	device.trust?.accept();
	device.trust?.start();
	if (setup?.policy.acceptance === "driver") device.setNoBounce(true);
	return device;
}

/** @throws RangeError that names the option */
function takePages(guest: Guest, bytes: number, option: string): Gpa {
	const gpa = guest.pages.alloc(Math.ceil(bytes / PAGE_SIZE));
	if (gpa < 0) throw new RangeError(`${option}: the guest has no ${formatBytes(bytes)} of adjacent pages; give a gpa`);
	return gpa;
}

function placeList(guest: Guest, sizes: readonly number[], isShared: boolean) {
	return sizes.map((bytes) => {
		const gpa = takePages(guest, bytes, "segments");
		if (isShared) shareRange(guest, gpa, bytes);
		return { gpa, bytes };
	});
}

/** Decrypts the pages of a buffer that are not shared yet, as its driver would have done. */
function shareRange(guest: Guest, gpa: Gpa, bytes: number): void {
	for (let page = gpa - (gpa % PAGE_SIZE); page < gpa + bytes; page += PAGE_SIZE) {
		if (guest.engine.ram.pageState(page) !== PageState.Shared)
			guest.converter.convert(page, PAGE_SIZE, PageState.Shared);
	}
}
