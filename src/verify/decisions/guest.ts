/** A guest as a `dma-decisions` case describes it: booted afresh, its pools as they are said to be, and its one device. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../../assembly/layout/pool.ts";
import type { GuestDevice } from "../../coco/guest/device.ts";
import { Guest, type GuestOptions } from "../../coco/guest/guest.ts";
import type { GuestPool } from "../../coco/memory/pools.ts";
import type { MemoryCipher } from "../../coco/platform/ciphertext.ts";
import type { PageConverter } from "../../coco/platform/convert.ts";
import { type PlatformName, platformNamed } from "../../coco/platform/platform.ts";
import { kernelOfRelease, type ZoneName } from "../../coco/rules/kernel.ts";
import type { GuestPoolOptions } from "../../coco/rules/pool.ts";
import type { Gpa } from "../../types.ts";
import type { Build } from "../../wasm.ts";
import { createMemory } from "../../wasm.ts";
import { TouchedStretches } from "../stretches.ts";
import { type DecisionCase, type DecisionHeader, type DecisionPlatform, SEGMENT_STRIDE } from "./lines.ts";

const PLATFORM_OF: Readonly<Record<DecisionPlatform, PlatformName>> = {
	x86: "none",
	sme: "sme",
	snp: "snp",
	vtom: "snp-vtom",
	tdx: "tdx",
	arm64: "arm64",
	pkvm: "pkvm",
	cca: "cca",
	s390pv: "s390-pv",
};

const SLABS = 512;
export const POOL_BYTES = SLABS * IO_TLB_SIZE;
export const RAM_END = 17 * 2 ** 30;
/** Where the recordings' allocator takes its pages from, by the zone that was asked for. */
interface ZoneWindow {
	readonly zone: ZoneName;
	readonly gpa: Gpa;
}
const WINDOW_BYTES = 0xf0000;
const ATOMIC_BYTES = 65536;

export function zoneWindows({ arch }: DecisionHeader): readonly ZoneWindow[] {
	return [
		{ zone: "DMA", gpa: arch === "x86" ? 0x800000 : 0x51000000 },
		{ zone: "DMA32", gpa: 0x60000000 },
		{ zone: "Normal", gpa: 0x180000000 },
	];
}

/** Contents count for nothing in a decision, so that conversions leave them. */
const NO_CIPHER: MemoryCipher = { isAes: false, encrypt: (_gpa, data) => data, decrypt: (_gpa, data) => data };

/** Memory that one boot after the other uses. */
export class DecisionArena {
	#memory: WebAssembly.Memory = createMemory(65536, false);
	readonly #build: Build;

	constructor(build: Build) {
		this.#build = build;
	}

	/** Options that place a guest with these stretches in the arena. */
	place(stretches: readonly { gpa: Gpa; bytes: number }[], options: GuestOptions): GuestOptions {
		const plain = { ...options, build: this.#build, ram: stretches };
		const context = { ptr: 65536, bytes: Guest.contextBytes(plain) };
		let ptr = Math.ceil((context.ptr + context.bytes) / 65536) * 65536;
		const ram = stretches.map(({ gpa, bytes }) => {
			const stretch = { gpa, bytes, ptr };
			ptr += bytes;
			return stretch;
		});
		const missing = ptr - this.#memory.buffer.byteLength;
		if (missing > 0) this.#memory.grow(Math.ceil(missing / 65536));
		return { ...plain, ram, memory: this.#memory, context };
	}
}

/** A booted guest, its device, and the pools that the case is about. */
export interface BootedCase {
	readonly guest: Guest;
	readonly device: GuestDevice;
	/** The pool that serves the device, or null. */
	readonly pool: GuestPool | null;
	/** Where the recording has that pool. */
	readonly poolGpa: Gpa;
}

/** Fails the conversion of the pool that starts at an address. */
function failPool(converter: PageConverter, start: Gpa): void {
	converter.onTransition = (gpa) => {
		if (gpa !== start) return;
		converter.onTransition = null;
		failConversion(converter, "toShared");
	};
}

/** Fails the next conversion, where conversions can fail. */
export function failConversion(converter: PageConverter, to: "toShared" | "toPrivate"): void {
	const { canFail, steps } = converter.platform.conversion;
	const first = steps[to][0]?.step;
	if (canFail && first !== undefined) converter.failAt(first);
}

/** Where the page of another device lies in the recordings, and how far from it on the bus. */
export const PEER = { lowGpa: 0xe0000000, highGpa: 0x480000000, busOffset: -0x10000000 } as const;

/** The page of another device that ends a list. */
export function peerGpa({ gpa }: DecisionCase): Gpa {
	return (gpa < 2 ** 32 ? PEER.lowGpa : PEER.highGpa) + (gpa % 4096);
}

/** Whole pages that are the caller's: its buffers, those of another device that may bounce, and the last one of RAM. */
function buffersOf(asked: DecisionCase): { gpa: Gpa; bytes: number }[] {
	const { segments, bytes, lastSegment } = asked;
	const starts = Array.from({ length: segments }, (_, i) => asked.gpa + i * SEGMENT_STRIDE);
	if (lastSegment === "host") starts.push(peerGpa(asked));
	const buffers = bytes === 0 ? [] : starts.map((start) => ({ start, end: start + bytes }));
	return [...buffers, { start: RAM_END - PAGE_SIZE, end: RAM_END }].map(({ start, end }) => {
		const gpa = start - (start % PAGE_SIZE);
		return { gpa, bytes: Math.ceil((end - gpa) / PAGE_SIZE) * PAGE_SIZE };
	});
}

/** Boots the guest of a case. @returns null: it cannot be set up */
export async function bootCase(
	header: DecisionHeader,
	asked: DecisionCase,
	arena: DecisionArena,
): Promise<BootedCase | null> {
	if (asked.pool === "priv" || asked.pool === "null") return null;
	const platform = PLATFORM_OF[asked.platform];
	const kernel = kernelOfRelease(header.release);
	const restricted = asked.pool.startsWith("restr");
	const high = asked.pool === "restrhi";
	const restrictedGpa = high ? 0x108000000 : 0x8000000;
	const { protection } = platformNamed(platform);
	const defaultGpa = kernel.rules.placesPoolAnywhere.is.includes(protection) ? 0x104000000 : 0x4000000;
	const pools: GuestPoolOptions[] = restricted ? [{ kind: "restricted", size: POOL_BYTES, start: restrictedGpa }] : [];
	const touched = new TouchedStretches();
	touched.add(defaultGpa, POOL_BYTES);
	if (restricted) touched.add(restrictedGpa, POOL_BYTES);
	for (const { gpa } of zoneWindows(header)) touched.add(gpa, WINDOW_BYTES);
	const reserved = buffersOf(asked);
	for (const { gpa, bytes } of reserved) touched.add(gpa, bytes);
	const stretches = touched.stretches("");
	const options = arena.place(stretches, {
		ram: stretches,
		platform,
		kernel,
		swiotlb: asked.pool === "noforce" ? "noforce" : `512,1${asked.force ? ",force" : ""}`,
		bootPoolFails: asked.pool === "noalloc",
		growthSlabs: header.dynamic ? 1024 : 0,
		pools,
		reserved,
		atomicPoolBytes: asked.atomicPools === "none" ? 0 : ATOMIC_BYTES,
		cipher: NO_CIPHER,
		maxDevices: 4,
		onConverter: (converter) => {
			if (asked.pool === "decfail") failPool(converter, defaultGpa);
			if (asked.pool === "restrdecfail") failPool(converter, restrictedGpa);
		},
	});
	const guest = await Guest.create(options);
	guest.converter.onTransition = null;
	const kind = (name: string) => guest.pools.find((one) => one.kind === name) ?? null;
	const own = kind("restricted");
	if (asked.pool === "full" || asked.pool === "restrfull") fill(guest, own ?? kind("default"));
	if (asked.atomicPools === "full") fillAtomic(guest);
	const device = guest.addDevice({
		dmaMask: asked.dmaMask,
		coherentDmaMask: asked.coherentDmaMask,
		busLimit: asked.busLimit,
		coherent: asked.coherent,
		minAlignMask: asked.minAlignMask,
		...(own === null ? {} : { pools: [own] }),
	});
	const pool = own?.attachError === null ? own : kind("default");
	return { guest, device, pool, poolGpa: pool?.kind === "restricted" ? restrictedGpa : defaultGpa };
}

/** Takes every slot of a pool. */
function fill(guest: Guest, pool: GuestPool | null): void {
	if (pool === null) return;
	const filler = guest.engine.addDevice({ pool: pool.pool });
	while (guest.engine.instance.exports.swiotlbAlloc(filler.index, 128 * IO_TLB_SIZE, 4095, 0) >= 0);
}

/** Takes every page of the atomic pools. */
function fillAtomic({ atomic }: Guest): void {
	const everything = { device: "others", ccShared: atomic?.ccShared === true };
	while (atomic?.alloc(ATOMIC_BYTES, everything).ok === true);
}
